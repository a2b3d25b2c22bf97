// Live: what the microphone hears, played at once with the chosen style. The host computes; see front.js.

import { make } from "./make.js";

const ABOUT =
  "What the microphone hears is played at once, with the style, the mix and the alphas that are set above." +
  " Put headphones on: what a loudspeaker plays comes back through the microphone.";
const BUSY = ": this machine does not keep up; other programs or pages may be what it is busy with";
const [FLOOR, LIMIT] = [-60, 0]; // dB of full scale: the ends of a meter
const OFTEN = 0.02; // of the blocks: more drop-outs than these are a nuisance

const ms = (seconds) => `${Math.round(1_000 * seconds)} ms`;

/** A meter with its name; `show(peak)` with a peak from 0 to 1. */
function meter(name) {
  const bar = make("meter", { min: FLOOR, max: LIMIT, high: -0.1, value: FLOOR, "aria-label": `${name} level` });
  const show = (peak) => (bar.value = Math.max(FLOOR, 20 * Math.log10(peak + 1e-9)));
  return { show, element: make("label", { className: "front-meter" }, make("span", {}, name), bar) };
}

/** What was measured before, in words. */
function found({ length, p50, p99 }) {
  return `This machine computes a block of ${ms(length)} in ${ms(p50)}, sometimes ${ms(p99)}`;
}

/** Computing times in words. */
function computed(p50, p99) {
  return `${(1_000 * p50).toFixed(1)} ms (99 of 100 in at most ${(1_000 * p99).toFixed(1)})`;
}

/** How it goes, in words. */
function going({ length, p50, p99, blocks, missed, late, card }) {
  const added = card ? `, and about ${ms(card)} more in the sound card, as the browser says` : "";
  return (
    `Heard ${ms(late)} late${added}. A block of ${ms(length)} is computed in ${computed(p50, p99)}.` +
    ` ${missed} drop-outs in ${blocks} blocks${missed > OFTEN * blocks ? BUSY : ""}.`
  );
}

export class Live {
  /** `asked()` is what is set now; `changed()` is told of a beginning and an end. */
  constructor(host, asked, changed) {
    this.host = host;
    this.asked = asked;
    this.changed = changed;
    this.playing = false;
    this.button = make("button", { type: "button", textContent: "▶ play live", "aria-pressed": false });
    this.line = make("p", { className: "front-line", role: "status" });
    this.figures = make("p", { className: "front-line" });
    this.meters = [meter("in"), meter("out")];
    this.bar = make("div", { className: "front-meters", hidden: true });
    this.bar.append(...this.meters.map(({ element }) => element));
    const parts = [make("h3", { textContent: "live" }), make("p", { className: "front-line" }, ABOUT)];
    const buttons = make("div", { className: "front-buttons" }, this.button, this.bar);
    parts.push(buttons, this.line, this.figures);
    this.element = make("section", { className: "front-panel front-live", "aria-label": "live" }, ...parts);
    this.button.addEventListener("click", () => (this.playing ? this.end("") : this.begin()));
  }

  say(words, wrong = false) {
    this.line.textContent = words;
    this.line.classList.toggle("front-wrong", wrong);
  }

  async begin() {
    this.button.disabled = true;
    try {
      if (await this.fast()) await this.play();
    } catch (error) {
      this.show(false);
      this.say(`live: ${error.message}`, true);
    }
    this.button.disabled = false;
  }

  /** Does this machine keep up, or has somebody read that it does not, and wants to hear it? */
  async fast() {
    if (this.measured) return true;
    this.say("This machine is measured: how long does it take for a block?");
    this.measured = await this.host.measure();
    if (this.measured.keeps) return true;
    this.say(
      `${found(this.measured)}: too slow for live. Record a content instead; or hear it with drop-outs.`,
      true,
    );
    this.button.textContent = "▶ play live all the same";
    return false;
  }

  async play() {
    this.say("The microphone is opened.");
    await this.host.begin(this.asked(), this.measured, (report) => this.told(report));
    this.show(true);
    this.say("Live.");
  }

  told(report) {
    if (report.ended) {
      this.end(report.ended);
      return;
    }
    report.peaks.forEach((peak, n) => this.meters[n].show(peak));
    this.figures.textContent = going(report);
  }

  /** Stop, and say why; with no words, because somebody asked for it. */
  end(words) {
    this.host.end();
    this.show(false);
    this.say(words && `live ended: ${words}`, Boolean(words));
  }

  show(playing) {
    if (playing !== this.playing) {
      this.playing = playing;
      this.changed();
    }
    this.button.textContent = playing ? "❚❚ stop live" : "▶ play live";
    this.button.setAttribute("aria-pressed", playing);
    this.bar.hidden = !playing;
  }

  /** What is set has changed. */
  turn() {
    this.host.turn(this.asked()).catch((error) => this.say(`live: ${error.message}`, true));
  }
}
