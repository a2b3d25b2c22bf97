// In the audio thread: samples of the microphone go to the worker in blocks, its answers to the loudspeaker.
//
// A block's output is due `wait` samples after the block is full, neither earlier nor later: what has not come
// by then is silence, and the block counts as a drop-out. The port that comes first leads to the worker. Each
// message there is { at, samples, missed }: where in the stream the block begins, and the drop-outs so far.

class Card extends AudioWorkletProcessor {
  constructor({ processorOptions: { block, wait } }) {
    super();
    this.block = block;
    this.wait = wait;
    this.most = Math.ceil(wait / block) + 1; // blocks that are computed or wait: one more would be late
    this.heard = 0; // samples that came in
    this.asked = 0; // blocks that are on their way
    this.missed = 0;
    this.filling = new Float32Array(block);
    this.ready = new Float32Array((this.most + 2) * block); // a ring of what is to be played
    this.port.onmessage = ({ data }) => {
      this.worker = data;
      this.worker.onmessage = (event) => this.computed(event.data);
    };
  }

  /** Where in the stream what is played next belongs. */
  due() {
    return this.heard - this.block - this.wait;
  }

  computed({ at, samples }) {
    this.asked -= 1;
    if (at < this.due()) {
      this.missed += 1; // late
      return;
    }
    for (let i = 0; i < this.block; i++) this.ready[(at + i) % this.ready.length] = samples[i];
  }

  /** Ask for the block that is full now. */
  ask() {
    const at = this.heard - this.block;
    if (this.asked < this.most) {
      this.asked += 1;
      this.worker.postMessage({ at, samples: this.filling, missed: this.missed }, [this.filling.buffer]);
    } else this.missed += 1;
    this.filling = new Float32Array(this.block);
  }

  process([input], [[output]]) {
    if (!this.worker) return true;
    const due = this.due();
    for (let i = 0; i < output.length; i++) {
      const place = (due + i) % this.ready.length;
      output[i] = due < 0 ? 0 : this.ready[place];
      if (due >= 0) this.ready[place] = 0;
    }
    this.filling.set(input[0] ?? new Float32Array(output.length), this.heard % this.block);
    this.heard += output.length;
    if (this.heard % this.block === 0) this.ask();
    return true;
  }
}

registerProcessor("card", Card);
