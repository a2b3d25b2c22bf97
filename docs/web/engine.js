// The network in six stages, each as long as the recording: what mambamuse/use/stages.py does, in a browser.

import { Machine } from "./machine.js";
import * as sound from "./sound.js";
import { bandLevels, COUNT, toned } from "./tone.js";

const STRIDES = [16, 16, 8, 4, 2, 8, 4, 2, 1]; // samples in a time step, at the nine places
const ENCODED = 5; // places between the encoder and the decoder
const FRAME = 16; // samples with one weight for each stage of an envelope
const EPS = 1e-5; // added to a variance
const PART = 0.01; // added to the weight of a stage
const COST = [0.43, 0.11, 0.11, 0.12, 0.19, 0.04]; // of a stage, of all

/** Features `(steps, width)` of float32, in a row. */
class Shelf {
  constructor(steps, width) {
    this.steps = steps;
    this.width = width;
    this.values = new Float32Array(steps * width);
  }

  /** `count` steps from `start` on; behind the last one, zeros. */
  cut(start, count) {
    const known = this.values.subarray(start * this.width, (start + count) * this.width);
    if (known.length === count * this.width) return known;
    const piece = new Float32Array(count * this.width);
    piece.set(known);
    return piece;
  }
}

/** The features of `shelf`, one step for `stride` samples, with AdaIN from the statistics `content` to `style`,
 * mixed by the `weights` of the envelope's stages and blended by `alpha`, as they are cut. Source: section III.C.
 */
class Restyled {
  constructor(shelf, stride, weights, content, style, alpha) {
    Object.assign(this, { shelf, stride, weights, content, style, alpha });
    this.scale = new Float32Array(shelf.width);
    this.shift = new Float32Array(shelf.width);
  }

  /** Scale and shift of each channel in `frame`. */
  enter(frame) {
    const [[mean, deviation], [newMean, newDeviation]] = [this.content, this.style];
    const [width, sets] = [this.shelf.width, this.weights.width];
    for (let c = 0; c < width; c++) {
      let [m, d, newM, newD] = [0, 0, 0, 0];
      for (let s = 0; s < sets; s++) {
        const weight = this.weights.values[frame * sets + s];
        m += weight * mean[s * width + c];
        d += weight * deviation[s * width + c];
        newM += weight * newMean[s * width + c];
        newD += weight * newDeviation[s * width + c];
      }
      this.scale[c] = (this.alpha * newD) / d + 1 - this.alpha;
      this.shift[c] = this.alpha * (newM - (newD * m) / d);
    }
  }

  cut(start, count) {
    const { steps, width } = this.shelf;
    const piece = this.shelf.cut(start, count).slice();
    const known = Math.max(0, Math.min(count, steps - start));
    let frame = -1;
    for (let step = 0; step < known; step++) {
      const now = Math.floor(((start + step) * this.stride) / FRAME);
      if (now !== frame) this.enter(now);
      frame = now;
      for (let c = 0, at = step * width; c < width; c++, at++) {
        piece[at] = piece[at] * this.scale[c] + this.shift[c];
      }
    }
    return piece;
  }
}

/** Write `values`, which begin at the step `at`, into `shelf`, without what is in front of it or behind. */
function keep(shelf, values, at) {
  const first = Math.max(0, -at);
  const last = Math.min(values.length / shelf.width, shelf.steps - at);
  if (last > first)
    shelf.values.set(values.subarray(first * shelf.width, last * shelf.width), (at + first) * shelf.width);
}

/** `[mean, deviation]` of each channel of `shelf` in each stage of the envelope, set by set, inside a recording of
 * `time` samples; `weights` are those of the stages.
 */
function statistics(shelf, weights, stride, time) {
  const { width, values } = shelf;
  const sets = weights.width;
  const first = Math.floor(sound.START / stride);
  const last = Math.ceil((sound.START + time) / stride);
  const count = last - first;
  const [sums, squares] = [new Float64Array(sets * width), new Float64Array(sets * width)];
  const share = new Float64Array(sets);
  for (let step = first; step < last; step++) {
    const frame = Math.floor((step * stride) / FRAME);
    for (let s = 0; s < sets; s++) {
      const weight = weights.values[frame * sets + s] + PART;
      share[s] += weight;
      for (let c = 0, at = step * width; c < width; c++, at++) {
        const x = weight * values[at];
        sums[s * width + c] += x;
        squares[s * width + c] += x * values[at];
      }
    }
  }
  const mean = sums.map((sum, n) => sum / share[Math.floor(n / width)]);
  const deviation = squares.map((square, n) => {
    const variance = Math.max(0, square / share[Math.floor(n / width)] - mean[n] ** 2);
    return Math.sqrt((variance * count) / Math.max(1, count - 1) + EPS);
  });
  return [mean, deviation];
}

/** The encoder's `outputs`: its features and the weights of the stages, which of one set are all 1. */
function apart(outputs, samples) {
  if (outputs.length > ENCODED) return [outputs.slice(0, ENCODED), outputs[ENCODED]];
  const weights = new Shelf(samples / FRAME, 1);
  weights.values.fill(1);
  return [outputs, weights];
}

/** Styles `a` and `b`, of which `share` is b's. */
export function mixed(a, b, share) {
  const between = (x, y) => Float32Array.from(x, (value, c) => (1 - share) * value + share * y[c]);
  const places = a.places.map((pair, place) => pair.map((row, kind) => between(row, b.places[place][kind])));
  return { places, tone: between(a.tone, b.tone) };
}

/** Styles in a row, `(2 * sets, channels)` and the levels of the bands, as `style` below gives them; `widths` are
 * the channels at the places.
 */
export function unpacked(numbers, widths, sets) {
  const total = widths.reduce((sum, width) => sum + width, 0);
  const starts = widths.map((_, place) => widths.slice(0, place).reduce((sum, width) => sum + width, 0));
  const rows = (at, width) => {
    const found = new Float32Array(sets * width);
    for (let s = 0; s < sets; s++) {
      found.set(numbers.subarray(at + s * total, at + s * total + width), s * width);
    }
    return found;
  };
  const styles = [];
  const size = 2 * sets * total;
  for (let at = 0; at < numbers.length; at += size + COUNT) {
    const pair = (width, n) => [rows(at + starts[n], width), rows(at + sets * total + starts[n], width)];
    styles.push({ places: widths.map(pair), tone: numbers.slice(at + size, at + size + COUNT) });
  }
  return styles;
}

/** The network: `programs` of its stages, which `module`, network.c as WebAssembly, runs. */
export class Engine {
  constructor(module, programs) {
    this.machines = programs.map((program) => new Machine(module, program));
  }

  /** The shelves `inputs`, of `samples` in all, through stage `number`; `tick(share)` is told of progress. */
  run(number, inputs, samples, tick) {
    const machine = this.machines[number];
    const { block, inputs: rows, outputs } = machine.about;
    const before = COST.slice(0, number).reduce((sum, cost) => sum + cost, 0);
    const shelves = outputs.map(({ rate, channels }) => new Shelf(samples / rate, channels));
    const late = Math.max(...outputs.map(({ rate, delay }) => rate * delay));
    const blocks = Math.ceil((samples + late) / block);
    machine.start();
    for (let i = 0; i < blocks; i++) {
      inputs.forEach((shelf, n) => machine.give(n, shelf.cut(i * rows[n].rows, rows[n].rows)));
      machine.run(samples);
      outputs.forEach(({ rate, delay }, n) => {
        keep(shelves[n], machine.taken(n), (i * block) / rate - delay);
      });
      tick(before + (COST[number] * (i + 1)) / blocks);
    }
    return shelves;
  }

  /** What the encoder makes of `prepared`, a recording at the model's level. */
  encoded(prepared, tick = () => {}) {
    const row = new Shelf(0, 1);
    row.values = sound.extend(prepared);
    row.steps = row.values.length;
    const [features, weights] = apart(this.run(0, [row], row.steps, tick), row.steps);
    const measured = features.map((shelf, n) => statistics(shelf, weights, STRIDES[n], prepared.length));
    return { features, weights, measured, samples: row.steps, time: prepared.length };
  }

  /** The decoder behind `encoded`, which `change(place, shelf, measured)` restyles; if `last`, its sound. */
  decoded(encoded, change, last = true, tick = () => {}) {
    const { features, weights, measured, samples, time } = encoded;
    let now = change(0, features[0], measured[0]);
    for (let number = 1; number < ENCODED; number++) {
      const inputs = [now];
      if (this.machines[number].about.inputs.length > 1) {
        inputs.push(change(number, features[number], measured[number]));
      }
      const [shelf] = this.run(number, inputs, samples, tick);
      const place = ENCODED + number - 1;
      now = change(place, shelf, statistics(shelf, weights, STRIDES[place], time));
    }
    if (!last) return null;
    const [shelf] = this.run(5, [now], samples, tick);
    return shelf.values;
  }

  /** The style of `prepared`, which `encoded` holds: means and deviations at the nine `places`, and its `tone`. */
  style(prepared, encoded, tick = () => {}) {
    const found = [...encoded.measured];
    const measure = (place, shelf, measured) => {
      found[place] = measured;
      return shelf;
    };
    this.decoded(encoded, measure, false, tick);
    const places = found.map((pair) => pair.map((row) => Float32Array.from(row)));
    return { places, tone: bandLevels(prepared) };
  }

  /** `prepared`, which `encoded` holds, with `style`; of its shares, `alphas` are those at the nine places. */
  transferred(prepared, encoded, style, { alphas, tone }, tick = () => {}) {
    const change = (place, shelf, measured) => {
      if (!alphas[place]) return shelf;
      return new Restyled(shelf, STRIDES[place], encoded.weights, measured, style.places[place], alphas[place]);
    };
    const made = this.decoded(encoded, change, true, tick);
    const filtered = new sound.HighPass().filtered(made);
    const inside = filtered.subarray(sound.START, sound.START + prepared.length);
    const heard = tone ? toned(inside, style.tone, tone) : inside;
    return sound.heldStart(sound.fadedEnds(new sound.Gate().gated(heard, prepared)), prepared);
  }
}
