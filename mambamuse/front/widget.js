// The front end as an anywidget, with Python behind it: what is asked goes there, sound comes back.

import { front } from "./front.js";

/** Float32 samples of a buffer that came from Python. */
function samples(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** What Python is asked, and who waits for the answer. */
class Asked {
  constructor(model) {
    this.model = model;
    this.waiting = new Map();
    this.known = new Set(); // names of sounds of one's own that Python has
    this.heard = ({ id, problem }, buffers) => this.told(id, problem, buffers);
    model.on("msg:custom", this.heard);
  }

  told(id, problem, buffers) {
    const waits = this.waiting.get(id);
    if (!waits) return; // another view's
    this.waiting.delete(id);
    if (problem) waits.fail(new Error(problem));
    else waits.done(samples(buffers[0]));
  }

  send(message, buffers = []) {
    const id = String(Math.random());
    return new Promise((done, fail) => {
      this.waiting.set(id, { done, fail });
      this.model.send({ id, ...message }, undefined, buffers);
    });
  }

  load(name) {
    return this.send({ what: "load", name });
  }

  /** Let Python have a sound that it does not know yet. */
  async bring({ name, samples: sound }) {
    if (this.model.get("names").includes(name) || this.known.has(name)) return;
    await this.send({ what: "bring", name }, [sound.buffer]);
    this.known.add(name);
  }

  async transfer({ content, styles, ...how }) {
    for (const sound of [content, ...styles]) await this.bring(sound);
    return this.send({
      what: "transfer",
      content: content.name,
      styles: styles.map(({ name }) => name),
      ...how,
    });
  }

  close() {
    this.model.off("msg:custom", this.heard);
  }
}

function render({ model, el }) {
  const asked = new Asked(model);
  const changed = (settings) => {
    model.set("settings", settings);
    model.save_changes();
  };
  const end = front(el, {
    sounds: model.get("names").map((name) => ({ name, load: () => asked.load(name) })),
    places: model.get("places"),
    longest: model.get("longest"),
    mixes: model.get("mixes"),
    hint: model.get("hint"),
    settings: model.get("settings"),
    transfer: (request) => asked.transfer(request),
    changed,
  });
  return () => {
    end();
    asked.close();
  };
}

export default { render };
