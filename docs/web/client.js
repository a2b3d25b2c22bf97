// The worker, as a function that is called.

export class Client {
  constructor() {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.worker.onmessage = ({ data }) => this.told(data);
    this.worker.onerror = (event) => this.failed(event.message || "the page's worker does not start");
  }

  told({ id, share, made, error }) {
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
    this.waiting.forEach(({ fail }) => fail(new Error(words)));
    this.waiting.clear();
  }

  /** The output's samples for `request` (see front.js); `tick(share)` is told of progress. */
  transfer(request, tick = () => {}) {
    const id = crypto.randomUUID?.() ?? String(Math.random());
    return new Promise((done, fail) => {
      this.waiting.set(id, { tick, done, fail });
      this.worker.postMessage({ id, request });
    });
  }
}
