// The network in six stages, each as long as the recording: what mambamuse/use/stages.py does, in a browser.

import * as sound from "./sound.js";

const STRIDES = [16, 16, 8, 4, 2, 8, 4, 2, 1]; // samples in a time step, at the nine places
const ENCODED = 5; // places between the encoder and the decoder
const EPS = 1e-5; // added to a variance
const COST = [0.43, 0.11, 0.11, 0.12, 0.19, 0.04]; // of a stage, of all
export const OPTIONS = { graphOptimizationLevel: "disabled", executionProviders: ["wasm"] };

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

/** The features of `shelf`, each channel times its `scale` and with its `shift`, as they are cut. */
class Restyled {
  constructor(shelf, scale, shift) {
    this.shelf = shelf;
    this.scale = scale;
    this.shift = shift;
  }

  cut(start, count) {
    const { steps, width } = this.shelf;
    const piece = this.shelf.cut(start, count).slice();
    const known = Math.max(0, Math.min(count, steps - start)) * width;
    for (let i = 0; i < known; i++) piece[i] = piece[i] * this.scale[i % width] + this.shift[i % width];
    return piece;
  }
}

/** One stage, opened: an ONNX graph for blocks of samples, with a memory that goes in and comes out again. */
class Stage {
  constructor(ort, session, about) {
    this.ort = ort;
    this.session = session;
    this.about = about;
  }

  scalar(value) {
    return new this.ort.Tensor("int64", BigInt64Array.of(BigInt(value)), []);
  }

  /** The shelves `inputs`, of `samples` in all, through the stage; `tick(share)` is told of progress. */
  async run(inputs, samples, tick) {
    const { block, rates, delays, shapes, state } = this.about;
    const outputs = rates.map((rate, n) => new Shelf(samples / rate, this.about.widths[n]));
    const late = Math.max(...rates.map((rate, n) => rate * delays[n]));
    const blocks = Math.ceil((samples + late) / block);
    let memory = new this.ort.Tensor("float32", new Float32Array(state), [state]);
    const length = this.scalar(samples);
    for (let i = 0; i < blocks; i++) {
      const feeds = { position: this.scalar(i * block), length, state: memory };
      Object.entries(shapes).forEach(([name, [steps, width]], n) => {
        feeds[name] = new this.ort.Tensor("float32", inputs[n].cut(i * steps, steps), [steps, width]);
      });
      const results = await this.session.run(feeds);
      memory = results.new_state;
      outputs.forEach((shelf, n) => keep(shelf, results[`y${n}`].data, (i * block) / rates[n] - delays[n]));
      tick((i + 1) / blocks);
    }
    return outputs;
  }
}

/** Write `values`, which begin at the step `at`, into `shelf`, without what is in front of it or behind. */
function keep(shelf, values, at) {
  const first = Math.max(0, -at);
  const last = Math.min(values.length / shelf.width, shelf.steps - at);
  if (last > first)
    shelf.values.set(values.subarray(first * shelf.width, last * shelf.width), (at + first) * shelf.width);
}

/** `[mean, deviation]` of each channel of `shelf`, inside a recording of `time` samples. */
function statistics(shelf, stride, time) {
  const { width, values } = shelf;
  const first = Math.floor(sound.START / stride);
  const last = Math.ceil((sound.START + time) / stride);
  const count = last - first;
  const [sums, squares] = [new Float64Array(width), new Float64Array(width)];
  for (let at = first * width; at < last * width; at += width) {
    for (let c = 0; c < width; c++) {
      const x = values[at + c];
      sums[c] += x;
      squares[c] += x * x;
    }
  }
  const mean = sums.map((sum) => sum / count);
  const deviation = squares.map((square, c) => {
    const variance = Math.max(0, square / count - mean[c] ** 2);
    return Math.sqrt((variance * count) / Math.max(1, count - 1) + EPS);
  });
  return [mean, deviation];
}

/** AdaIN of `shelf` from the statistics `content` to `style`, blended by `alpha`. Source: section III.C. */
function restyled(shelf, [mean, deviation], [newMean, newDeviation], alpha) {
  if (!alpha) return shelf;
  const scale = Float32Array.from(mean, (_, c) => (alpha * newDeviation[c]) / deviation[c] + 1 - alpha);
  const shift = Float32Array.from(
    mean,
    (m, c) => alpha * (newMean[c] - (newDeviation[c] * m) / deviation[c]),
  );
  return new Restyled(shelf, scale, shift);
}

/** Statistics `a` and `b` at all places, of which `share` is b's. */
export function mixed(a, b, share) {
  const between = (x, y) => Float32Array.from(x, (value, c) => (1 - share) * value + share * y[c]);
  return a.map((pair, place) => pair.map((row, kind) => between(row, b[place][kind])));
}

/** Styles `(2, channels)` in a row, as `style` below gives them; `widths` are the channels at the places. */
export function unpacked(numbers, widths) {
  const total = widths.reduce((sum, width) => sum + width, 0);
  const starts = widths.map((_, place) => widths.slice(0, place).reduce((sum, width) => sum + width, 0));
  const row = (at, width) => numbers.subarray(at, at + width);
  const styles = [];
  for (let at = 0; at < numbers.length; at += 2 * total) {
    styles.push(widths.map((width, n) => [row(at + starts[n], width), row(at + total + starts[n], width)]));
  }
  return styles;
}

/** The network of the folder that `about` (about.json) describes; `fetched(name)` gives a file's bytes. */
export class Engine {
  constructor(ort, about, fetched) {
    this.ort = ort;
    this.about = about;
    this.fetched = fetched;
    this.stages = [];
  }

  async stage(number) {
    if (!this.stages[number]) {
      const bytes = await this.fetched(`stage-${number}.onnx`);
      const session = await this.ort.InferenceSession.create(bytes, OPTIONS);
      this.stages[number] = new Stage(this.ort, session, this.about.stages[number]);
    }
    return this.stages[number];
  }

  async run(number, inputs, samples, tick) {
    const before = COST.slice(0, number).reduce((sum, cost) => sum + cost, 0);
    const stage = await this.stage(number);
    return stage.run(inputs, samples, (share) => tick(before + COST[number] * share));
  }

  /** What the encoder makes of `prepared`, a recording at the model's level. */
  async encoded(prepared, tick = () => {}) {
    const row = new Shelf(0, 1);
    row.values = sound.extend(prepared);
    row.steps = row.values.length;
    const features = await this.run(0, [row], row.steps, tick);
    const measured = features.map((shelf, place) => statistics(shelf, STRIDES[place], prepared.length));
    return { features, measured, samples: row.steps, time: prepared.length };
  }

  /** The decoder behind `encoded`, which `change(place, shelf, measured)` restyles; if `last`, its sound. */
  async decoded(encoded, change, last = true, tick = () => {}) {
    const { features, measured, samples, time } = encoded;
    let now = change(0, features[0], measured[0]);
    for (let number = 1; number < ENCODED; number++) {
      const inputs = [now];
      if (this.about.stages[number].shapes.skip) {
        inputs.push(change(number, features[number], measured[number]));
      }
      const [shelf] = await this.run(number, inputs, samples, tick);
      const place = ENCODED + number - 1;
      now = change(place, shelf, statistics(shelf, STRIDES[place], time));
    }
    if (!last) return null;
    const [shelf] = await this.run(5, [now], samples, tick);
    return shelf.values;
  }

  /** The style of a recording: means and deviations at the nine places, of what `encoded` holds. */
  async style(encoded, tick = () => {}) {
    const found = [...encoded.measured];
    const measure = (place, shelf, measured) => {
      found[place] = measured;
      return shelf;
    };
    await this.decoded(encoded, measure, false, tick);
    return found.map((pair) => pair.map((row) => Float32Array.from(row)));
  }

  /** `prepared`, which `encoded` holds, with `style`; `alphas` are its shares at the nine places. */
  async transferred(prepared, encoded, style, alphas, tick = () => {}) {
    const change = (place, shelf, measured) => restyled(shelf, measured, style[place], alphas[place]);
    const made = await this.decoded(encoded, change, true, tick);
    const filtered = new sound.HighPass().filtered(made);
    const heard = filtered.subarray(sound.START, sound.START + prepared.length);
    return sound.heldStart(sound.fadedEnds(new sound.Gate().gated(heard, prepared)), prepared);
  }
}
