// The worker, as functions that are called.

export class Client {
  constructor() {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.reported = null; // told how live goes
    this.broken = ""; // why nothing will be answered any more
    this.worker.onmessage = ({ data }) => this.told(data);
    this.worker.onerror = (event) => this.failed(event.message || "the page's worker does not start");
  }

  told({ id, share, made, error, report }) {
    if (report) {
      this.reported?.(report);
      return;
    }
    const { tick, done, fail } = this.waiting.get(id);
    if (share !== undefined) {
      tick(share);
      return;
    }
    this.waiting.delete(id);
    if (error) fail(new Error(error));
    else done(made);
  }

  failed(words) {
    this.broken = words;
    this.waiting.forEach(({ fail }) => fail(new Error(words)));
    this.waiting.clear();
    this.reported?.({ error: words });
  }

  /** What the worker answers to `what` (see its last lines); `tick(share)` is told of progress. */
  ask(what, given = {}, moved = [], tick = () => {}) {
    if (this.broken) return Promise.reject(new Error(this.broken));
    const id = crypto.randomUUID?.() ?? String(Math.random());
    return new Promise((done, fail) => {
      this.waiting.set(id, { tick, done, fail });
      this.worker.postMessage({ id, what, given }, moved);
    });
  }

  /** The output's samples for `request` (see front.js). */
  transfer(request, tick) {
    return this.ask("transfer", { request }, [], tick);
  }
}
