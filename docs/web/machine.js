// The network's programs at work: what mambamuse/use/compiled.py does, with mambamuse/use/network.c as WebAssembly.

import { RATE } from "./sound.js";

const PAGE = 65_536; // bytes by which a memory grows
const LINE = 64; // bytes: arrays begin at multiples
const EPS = 1e-5; // added to a variance
const PART = 0.01; // added to the weight of a stage
const PLACES = 9;
export const UNKNOWN = 2 ** 40; // samples: a length beyond any sound

/** A program at work on one sound, in blocks; `about` is what mambamuse.use.portable says of it, `code` its
 * instructions, and `constants` what its memory begins with.
 */
export class Machine {
  constructor(module, { about, code, constants }) {
    const imports = { env: { log10: Math.log10, tanh: Math.tanh } };
    const { execute, memory, __heap_base: heap } = new WebAssembly.Instance(module, imports).exports;
    const kinds = [Int32Array, Float32Array, Float64Array, Float32Array, Float64Array];
    const lengths = [code.length, about.memory, about.sums, PLACES, about.falls.length];
    const starts = [];
    let end = heap.value;
    kinds.forEach((kind, n) => {
      starts.push(Math.ceil(end / LINE) * LINE);
      end = starts[n] + lengths[n] * kind.BYTES_PER_ELEMENT;
    });
    memory.grow(Math.ceil(end / PAGE) - memory.buffer.byteLength / PAGE);
    const arrays = kinds.map((kind, n) => new kind(memory.buffer, starts[n], lengths[n]));
    [this.code, this.memory, this.sums, this.alphas, this.falls] = arrays;
    this.code.set(code);
    this.falls.set(about.falls);
    const count = code.length / about.fields;
    const [program, m, d, alphas, falls] = starts;
    this.execute = (length) => execute(program, count, m, d, this.position, length, alphas, 1, falls);
    Object.assign(this, { about, constants });
    this.start();
  }

  /** Forget what was heard. */
  start() {
    const { constants, energies } = this.about;
    this.position = 0;
    this.memory.set(this.constants);
    this.memory.fill(0, constants);
    this.sums.fill(0);
    if (energies) this.memory.fill(energies.value, energies.at, energies.at + energies.count);
  }

  /** The `values` of a block, `(rows, channels)`, become input number `n`. */
  give(n, values) {
    const { at, rows, width, channels } = this.about.inputs[n];
    for (let row = 0; row < rows; row++) {
      this.memory.set(values.subarray(row * channels, (row + 1) * channels), at + row * width);
    }
  }

  /** Output number `n` of the last block, `(rows, channels)`. */
  taken(n) {
    const { at, rows, width, channels } = this.about.outputs[n];
    const values = new Float32Array(rows * channels);
    for (let row = 0; row < rows; row++) {
      values.set(this.memory.subarray(at + row * width, at + row * width + channels), row * channels);
    }
    return values;
  }

  /** The next block of a sound of `length` samples, from the inputs to the outputs. */
  run(length = UNKNOWN) {
    this.execute(length);
    this.position += this.about.block;
  }

  /** From now on AdaIN goes to a `style`, `(2 * sets, channels)` at each of the nine places. */
  restyle(style) {
    for (const { place, channels, style: at, width } of this.about.places) {
      for (let row = 0; row < 2 * this.about.sets; row++) {
        this.memory.set(style[place].subarray(row * channels, (row + 1) * channels), at + row * width);
      }
    }
  }

  /** The statistics of what is heard begin with those of a `style`, which count for some `seconds`. */
  expect(style, seconds) {
    const { sets } = this.about;
    for (const { place, channels, stride, sums } of this.about.places) {
      const steps = Math.max(2, (seconds * RATE) / stride);
      const share = steps * (1 / sets + PART);
      const deviations = sets * channels;
      this.sums[sums] = steps;
      this.sums.fill(share, sums + 1, sums + 1 + sets);
      for (let set = 0; set < sets; set++) {
        const first = sums + 1 + sets + 2 * set * channels;
        for (let c = 0; c < channels; c++) {
          const mean = style[place][set * channels + c];
          const deviation = style[place][deviations + set * channels + c];
          const variance = ((deviation ** 2 - EPS) * (steps - 1)) / steps;
          this.sums[first + c] = share * mean;
          this.sums[first + channels + c] = share * (variance + mean ** 2);
        }
      }
    }
  }
}
