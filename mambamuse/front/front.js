// The front end: choose, drop or record a content and one or two styles, set how much, hear and see.
//
// The page try/ and the notebook's playground show the same; what computes is the host's: a worker with
// WebAssembly there, Python here. `front(element, host)` draws into `element`. The host has
//
//   sounds     [{ name, load() }]: samples to choose from, mono at 16 kHz
//   places     [{ name, alpha, fixed }]: the network's nine places, and where AdaIN can do nothing
//   longest    seconds that are used of a recording
//   mixes      whether two styles can be mixed; if not, `hint` says why
//   transfer   async (request, tick): the output's samples for { content, styles, mix, alpha, alphas },
//              where a sound is { name, samples }; `tick(share)` is told of progress
//   live       what plays the microphone; none: there is no such thing. `measure()` says how long a block
//              takes, as { keeps, length, p50, p99 } in seconds; `begin(request, measured, told)` tells how it
//              goes, or that it has { ended }; `turn(request)` and `end()` do what they say; all but `end`
//              are async, and a request there needs no content
//   settings   what to begin with, each of { content, style, other, alpha, mix, places } if wanted
//   asks       words on a button that starts the first transfer; none: it starts by itself
//   link       (settings): an address that restores them; none: there is no such button
//   changed    (settings): told of every change; may be left out

import { Picture, span } from "./draw.js";
import { decoded, recording } from "./intake.js";
import { Live } from "./live.js";
import { make } from "./make.js";
import { Player } from "./player.js";
import { RATE, equalGains, level, wav } from "./sound.js";

const SHORTEST = 0.05; // seconds of a sound to play with

/** A slider from 0 to 1 with its name and its number; `moved()` when it is let go. */
function slider(name, value, moved, fields = {}) {
  const number = make("output", { textContent: value.toFixed(2) });
  const input = make("input", { type: "range", min: 0, max: 1, step: 0.01, ...fields });
  input.value = value;
  input.addEventListener("input", () => (number.textContent = Number(input.value).toFixed(2)));
  input.addEventListener("change", moved);
  const set = (to) => {
    input.value = to;
    number.textContent = Number(to).toFixed(2);
  };
  return {
    input,
    set,
    element: make("label", { className: "front-slider" }, make("span", {}, name), input, number),
  };
}

/** A sound under its title: a picture, a button that plays it, a cursor, a line of words. */
class Panel {
  constructor(title, player) {
    this.title = title;
    this.player = player;
    this.samples = null;
    this.picture = new Picture(title);
    this.cursor = make("div", { className: "front-cursor", hidden: true });
    this.view = make("div", { className: "front-view" }, this.picture.canvas, this.cursor);
    this.button = make("button", { type: "button", className: "front-hear", disabled: true });
    this.position = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, disabled: true });
    this.position.setAttribute("aria-label", `position in the ${title}`);
    this.line = make("p", { className: "front-line", role: "status" });
    this.above = make("div", { className: "front-above" });
    const bar = make("div", { className: "front-bar" }, this.button, this.position);
    const heading = make("h3", { textContent: title });
    const parts = [heading, this.above, this.view, bar, this.line];
    this.element = make("section", { className: "front-panel", "aria-label": title }, ...parts);
    this.button.addEventListener("click", () =>
      player.heard === title ? player.pause() : player.play(title),
    );
    this.position.addEventListener("input", () => player.seek(Number(this.position.value)));
    this.view.addEventListener("click", (event) => this.pointed(event));
    this.heard(null);
  }

  pointed(event) {
    if (!this.samples) return;
    const [left, right] = span(this.view.clientWidth);
    const share = (event.offsetX - left) / (right - left);
    this.player.seek(Math.min(1, Math.max(0, share)) * (this.samples.length / RATE));
  }

  say(words, wrong = false) {
    this.line.textContent = words;
    this.line.classList.toggle("front-wrong", wrong);
  }

  show(samples) {
    this.samples = samples;
    this.followed = null;
    this.picture.show(samples);
    this.button.disabled = this.position.disabled = !samples;
    if (samples) this.position.max = samples.length / RATE;
  }

  /** What is heard now is the sound `name`. */
  heard(name) {
    const playing = name === this.title;
    this.button.textContent = playing ? "❚❚ pause" : `▶ ${this.title}`;
    this.button.setAttribute("aria-pressed", playing);
    this.element.classList.toggle("front-playing", playing);
  }

  follow(seconds) {
    if (!this.samples || seconds === this.followed) return;
    this.followed = seconds;
    const [left, right] = span(this.view.clientWidth);
    const length = this.samples.length / RATE;
    const inside = seconds > 0 && seconds <= length;
    this.cursor.hidden = !inside;
    this.cursor.style.left = `${left + ((right - left) * seconds) / length}px`;
    if (document.activeElement !== this.position) this.position.value = seconds;
  }
}

/** A panel with a list to choose from, a file, the microphone, and a place to drop a file on. */
class Choice extends Panel {
  constructor(title, player, host, library, chosen) {
    super(title, player);
    this.host = host;
    this.library = library;
    this.chosen = chosen;
    this.list = make("select", { "aria-label": `sound for the ${title}` });
    this.file = make("input", { type: "file", accept: "audio/*", hidden: true });
    this.open = make("button", { type: "button", textContent: "own file" });
    this.record = make("button", { type: "button" });
    this.open.setAttribute("aria-label", `own file for the ${title}`);
    this.nameRecord(`record ${host.longest} s`);
    const buttons = make("div", { className: "front-buttons" }, this.open, this.record, this.file);
    this.above.append(this.list, buttons);
    this.list.addEventListener("change", () => this.choose(this.list.value));
    this.open.addEventListener("click", () => this.file.click());
    this.file.addEventListener("change", () => this.bring(this.file.files[0]));
    this.record.addEventListener("click", () => this.recorded());
    this.element.addEventListener("dragover", (event) => event.preventDefault());
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) this.bring(event.dataTransfer.files[0]);
    });
    library.panels.push(this);
    this.relist();
  }

  relist() {
    const chosen = this.list.value;
    const names = [...this.library.sounds.keys()];
    this.list.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name })));
    if (names.includes(chosen)) this.list.value = chosen;
  }

  /** Take the sound `name` of the library. */
  async choose(name) {
    this.list.value = name;
    try {
      const sound = await this.library.get(name);
      if (this.list.value !== name) return; // another was chosen meanwhile
      this.name = name;
      this.show(sound.samples);
      this.say(sound.words ?? "");
      this.chosen();
    } catch (error) {
      this.list.value = this.name ?? name;
      this.say(`${name}: ${error.message}`, true);
    }
  }

  /** Add a file to the library, and take it; or say why not. */
  async bring(file, name = file.name) {
    this.file.value = "";
    try {
      const sound = await decoded(file, this.host.longest);
      if (!sound.samples.every(Number.isFinite)) throw new Error("there are NaN or infinite samples in it");
      if (!level(sound.samples)) throw new Error("silence, there is nothing to play with");
      if (sound.samples.length < SHORTEST * RATE) throw new Error(`shorter than ${SHORTEST} s, there is no timbre in it`);
      await this.choose(this.library.add(name, sound));
    } catch (error) {
      this.say(`${name}: ${error.message}`, true);
    }
  }

  nameRecord(words) {
    this.record.textContent = words;
    this.record.setAttribute("aria-label", `${words}, for the ${this.title}`);
  }

  async recorded() {
    if (this.stop) {
      this.stop();
      return;
    }
    try {
      this.stop = await recording(this.host.longest, (file) => {
        this.stop = null;
        this.nameRecord(`record ${this.host.longest} s`);
        this.bring(file, "recording");
      });
      this.nameRecord("stop");
    } catch (error) {
      this.say(`recording: ${error.message}`, true);
    }
  }
}

/** The sounds by their names: the host's, and above them what somebody brought. */
class Library {
  constructor(sounds) {
    this.sounds = new Map(sounds.map((sound) => [sound.name, sound]));
    this.panels = [];
  }

  async get(name) {
    const sound = this.sounds.get(name);
    sound.samples ??= await sound.load();
    return sound;
  }

  add(name, sound) {
    let free = name;
    for (let n = 2; this.sounds.has(free); n++) free = `${name} (${n})`;
    this.sounds = new Map([[free, { name: free, own: true, ...sound }], ...this.sounds]);
    this.panels.forEach((panel) => panel.relist());
    return free;
  }
}

const COARSE = [0, 1, 2, 5]; // of the places: those whose time steps are the longest

const ORDER =
  "First what passes from the encoder to the decoder, then the decoder's levels; each from coarse to fine." +
  " All are times the alpha above.";

/** What is done with all alphas at once. */
const PRESETS = [
  ["as trained", (place) => place.alpha],
  ["everywhere", () => 1],
  ["coarse places", (place, n) => (COARSE.includes(n) ? place.alpha : 0)],
  ["fine places", (place, n) => (COARSE.includes(n) ? 0 : place.alpha)],
];

/** `name` as a part of a file's name. */
function stem(name) {
  return name
    .replace(/\.[a-z0-9]{2,4}$/i, "")
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "");
}

class Front {
  constructor(element, host) {
    this.host = host;
    this.element = element;
    this.started = !host.asks;
    this.player = new Player((name) => this.heard(name));
    this.library = new Library(host.sounds);
    const chosen = () => this.answer();
    this.content = new Choice("content", this.player, host, this.library, chosen);
    this.style = new Choice("style 1", this.player, host, this.library, chosen);
    this.other = new Choice("style 2", this.player, host, this.library, chosen);
    this.output = new Panel("output", this.player);
    this.choices = [this.content, this.style, this.other];
    this.panels = [...this.choices, this.output];
    this.drawKnobs();
    this.drawActions();
    const row = make("div", { className: "front-panels" }, ...this.panels.map((panel) => panel.element));
    element.classList.add("front");
    element.replaceChildren(row, this.knobs, this.advanced);
    if (host.live) this.drawLive();
    this.watch();
    this.restore(host.settings ?? {});
  }

  drawKnobs() {
    const { host } = this;
    const moved = () => this.answer();
    this.alpha = slider("alpha: how much of the style", 1, moved);
    this.mix = slider("from style 1 to style 2", 0, moved, { disabled: !host.mixes });
    const hint = make("p", { className: "front-line", textContent: host.hint ?? "" });
    this.knobs = make("div", { className: "front-knobs" }, this.alpha.element, this.mix.element, hint);
    this.places = host.places.map((place) =>
      slider(place.name, place.alpha, moved, {
        disabled: place.fixed,
        "aria-label": `alpha at ${place.name}`,
      }),
    );
    const presets = PRESETS.map(([name, alpha]) => {
      const press = () => this.preset(alpha);
      return make("button", { type: "button", textContent: name, onclick: press });
    });
    this.advanced = make(
      "details",
      { className: "front-advanced" },
      make("summary", { textContent: "advanced: alpha at each of the network's nine places" }),
      make("p", {}, ORDER),
      make("div", { className: "front-buttons", role: "group", "aria-label": "presets" }, ...presets),
      make("div", { className: "front-places" }, ...this.places.map((place) => place.element)),
    );
  }

  drawActions() {
    this.start = make("button", {
      type: "button",
      className: "front-start",
      textContent: this.host.asks ?? "",
    });
    this.start.hidden = this.started;
    this.start.addEventListener("click", () => {
      this.started = true;
      this.start.hidden = true;
      this.answer();
    });
    this.progress = make("progress", {
      max: 1,
      value: 0,
      hidden: true,
      "aria-label": "how far the output is",
    });
    this.download = make("a", { className: "front-button", textContent: "download", hidden: true });
    this.copy = make("button", {
      type: "button",
      textContent: "copy a link to this",
      hidden: !this.host.link,
    });
    this.copy.addEventListener("click", () => this.copied());
    const buttons = make("div", { className: "front-buttons" }, this.start, this.download, this.copy);
    this.output.above.append(buttons, this.progress);
  }

  drawLive() {
    const ended = () => this.waiting && !this.live.playing && this.answer();
    this.live = new Live(this.host.live, () => this.request(), ended);
    this.advanced.after(this.live.element);
    const turned = () => this.live.playing && this.live.turn();
    [this.knobs, this.advanced].forEach((knobs) => knobs.addEventListener("input", turned));
  }

  /** Pictures follow the window and the page's colours; cursors follow what is played. */
  watch() {
    const redraw = () => this.panels.forEach((panel) => panel.picture.redraw());
    this.sizes = new ResizeObserver(redraw);
    this.panels.forEach((panel) => this.sizes.observe(panel.view));
    this.colours = new MutationObserver(redraw);
    this.colours.observe(document.body, { attributeFilter: ["data-theme", "data-jp-theme-light"] });
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", redraw);
    this.redraw = redraw;
    const frame = () => {
      const seconds = this.player.position();
      this.panels.forEach((panel) => panel.follow(seconds));
      this.frame = requestAnimationFrame(frame);
    };
    this.frame = requestAnimationFrame(frame);
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.sizes.disconnect();
    this.colours.disconnect();
    this.dark.removeEventListener("change", this.redraw);
    this.player.close();
    this.host.live?.end();
  }

  heard(name) {
    this.panels.forEach((panel) => panel.heard(name));
  }

  preset(alpha) {
    this.host.places.forEach((place, n) => this.places[n].set(place.fixed ? place.alpha : alpha(place, n)));
    this.answer();
  }

  /** Set what `settings` names and this page has; the rest is what it begins with. */
  async restore(settings) {
    const names = [...this.library.sounds.keys()];
    const known = (name, n) => (names.includes(name) ? name : names[n % names.length]);
    const number = (value, other) => (value >= 0 && value <= 1 ? value : other);
    this.alpha.set(number(settings.alpha, 1));
    this.mix.set(this.host.mixes ? number(settings.mix, 0) : 0);
    this.places.forEach((place, n) => place.set(number(settings.places?.[n], this.host.places[n].alpha)));
    this.restoring = true;
    const wanted = [settings.content, settings.style, settings.other];
    await Promise.all(this.choices.map((panel, n) => panel.choose(known(wanted[n], n))));
    this.restoring = false;
    this.answer();
  }

  settings() {
    return {
      content: this.content.name,
      style: this.style.name,
      other: this.other.name,
      alpha: Number(this.alpha.input.value),
      mix: Number(this.mix.input.value),
      places: this.places.map((place) => Number(place.input.value)),
    };
  }

  /** What is set, as a host takes it. */
  request() {
    const { mix, alpha, places } = this.settings();
    const sound = (panel) => ({ name: panel.name, samples: panel.samples });
    const styles = [this.style, this.other].map(sound);
    return { content: sound(this.content), styles, mix, alpha, alphas: places };
  }

  /** Compute and show the output of what is set now; if that changes meanwhile, once more. Live comes first. */
  async answer() {
    if (this.restoring || !this.choices.every((panel) => panel.samples)) return;
    this.host.changed?.(this.settings());
    this.balance();
    this.waiting = this.live?.playing; // for its end
    if (this.waiting) {
      if (this.started) this.output.say("comes when live ends");
      this.live.turn();
      return;
    }
    if (!this.started) return;
    this.again = true;
    if (this.busy) return;
    this.busy = true;
    while (this.again) {
      this.again = false;
      await this.computed();
    }
    this.busy = false;
  }

  async computed() {
    const settings = this.settings();
    const request = this.request();
    const began = performance.now();
    this.progress.hidden = false;
    this.output.say("...");
    try {
      const made = await this.host.transfer(request, (share) => (this.progress.value = share));
      this.start.hidden = true;
      const seconds = (performance.now() - began) / 1_000;
      this.output.show(made);
      this.output.say(`${(made.length / RATE).toFixed(1)} s of sound, answered in ${seconds.toFixed(2)} s`);
      this.offer(made, settings);
      this.balance();
    } catch (error) {
      this.output.say(error.message, true);
      this.start.textContent = "try again";
      this.start.hidden = false;
    }
    this.progress.hidden = true;
  }

  /** The output as a file, named after what it is made of. */
  offer(made, { content, style, other, mix }) {
    const styles = [mix < 1 ? style : null, mix > 0 ? other : null].filter(Boolean).map(stem);
    URL.revokeObjectURL(this.download.href);
    this.download.href = URL.createObjectURL(wav(made));
    this.download.download = `${stem(content)}-as-${styles.join("-")}.wav`;
    this.download.title = this.download.download;
    this.download.hidden = false;
  }

  /** All panels are played equally loud: as the content, or softer, so that none clips. */
  balance() {
    const full = this.panels.filter((panel) => panel.samples);
    const gains = equalGains(full.map((panel) => panel.samples));
    full.forEach((panel, n) => this.player.set(panel.title, panel.samples, gains[n]));
  }

  async copied() {
    const address = this.host.link(this.settings());
    const own = this.choices.some((panel) => this.library.sounds.get(panel.name).own);
    const left = own ? " Sounds of your own are not in it." : "";
    try {
      await navigator.clipboard.writeText(address);
      this.output.say(`The link is copied.${left}`);
    } catch {
      this.output.say(`${address}${left}`);
    }
  }
}

/** Draw the front end into `element`; the function that comes back ends it. See the top of this file. */
export function front(element, host) {
  const shown = new Front(element, host);
  return () => shown.close();
}
