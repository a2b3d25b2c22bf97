// Live, in the worker: the exported step, block by block, and what stands around it, as mambamuse/use/live.py
// has it for one channel.

import { CEILING, FRAME, Gate, HighPass, PEAK, RATE, START, Weighting, peakOf } from "./sound.js";
import { LATE, RunningTone } from "./tone.js";

const FALLS = 10 ** (-3 / 20); // of the level, in a second
const LOWEST = 1e-3; // of full scale: a level never falls below
const LASTING = 3; // frames
const REMEMBERS = 3; // seconds of loudness
const WITHIN = 10 ** (12 / 20); // bound of a gain: 12 dB
const SILENT_CONTENT = 1e-7; // weighted power up to which a block says nothing about loudness
const SILENT_OUTPUT = 1e-9;
const WARM_UP = 0.1; // seconds of content that the style's statistics stand for when a stream begins
const TURNS = 0.05; // seconds: how fast a knob that was turned gets there
const UNKNOWN = 2 ** 40; // samples: a length beyond any sound
const ARRAYS = { float32: Float32Array, float64: Float64Array };

/** `count` values in a straight line, behind `from` and up to `to`. */
function line(from, to, count) {
  return Float32Array.from({ length: count }, (_, i) => from + ((to - from) * (i + 1)) / count);
}

/** The level of a stream: what to divide the next block by. */
class Leveller {
  constructor() {
    this.level = 0;
    this.peaks = [];
  }

  /** The level at each sample of `block`; it moves in a line from that of the last block. */
  of(block) {
    for (let start = 0; start < block.length; start += FRAME) {
      const peak = peakOf(block, start, Math.min(start + FRAME, block.length));
      this.peaks = [...this.peaks, peak].slice(-LASTING);
    }
    const before = this.level;
    const fallen = this.level * FALLS ** (block.length / RATE);
    this.level = Math.max(Math.min(...this.peaks), fallen, LOWEST);
    return line(before || this.level, this.level, block.length);
  }
}

/** The mean power of `block`, weighted. */
function power(weighting, block) {
  return weighting.filtered(block).reduce((sum, x) => sum + x * x, 0) / block.length;
}

/** The gain that makes an output as loud as its content, block by block. */
class RunningGain {
  constructor() {
    this.weightings = [new Weighting(), new Weighting()];
    this.powers = [0, 0];
    this.measured = 0;
    this.gain = 1;
  }

  /** The gain at each sample, for blocks of the content and of the output that belong together. */
  of(content, y) {
    const now = [content, y].map((block, n) => power(this.weightings[n], block));
    const before = this.gain;
    const seconds = y.length / RATE;
    if (now[0] > SILENT_CONTENT && now[1] > SILENT_OUTPUT) {
      this.measured = Math.min(this.measured + seconds, REMEMBERS);
      this.powers = this.powers.map((known, n) => known + ((now[n] - known) * seconds) / this.measured);
      const gain = Math.sqrt(this.powers[0] / this.powers[1]);
      this.gain = Math.min(WITHIN, Math.max(1 / WITHIN, gain));
    }
    return line(before, this.gain, y.length);
  }
}

/** The last samples that came in: `passed(block)` is what came in `delay` samples ago. */
class Delay {
  constructor(delay) {
    this.waiting = new Float32Array(delay);
  }

  passed(block) {
    const all = new Float32Array(this.waiting.length + block.length);
    all.set(this.waiting);
    all.set(block, this.waiting.length);
    this.waiting = all.slice(block.length);
    return all.subarray(0, block.length);
  }
}

/** A style as the engine gives it, as the step takes it: the means of each set, then the deviations, at all places.
 * Its tone comes behind the step.
 */
export function packed(style, sets) {
  const rows = [];
  for (const kind of [0, 1]) {
    for (let set = 0; set < sets; set++) {
      for (const { [kind]: row } of style.places) {
        const width = row.length / sets;
        rows.push(...row.subarray(set * width, (set + 1) * width));
      }
    }
  }
  return Float32Array.from(rows);
}

/** Numbers that move towards others, a `share` of the way at a time. */
function toward(now, goal, share) {
  return now.map((x, i) => x + share * (goal[i] - x));
}

/** The exported step as an ONNX `session`; `about` (of about.json) says its block, delay and memories. */
class Step {
  constructor(ort, session, about) {
    this.ort = ort;
    this.session = session;
    this.about = about;
  }

  tensor(kind, values, shape) {
    return new this.ort.Tensor(kind, values, shape);
  }

  integer(value) {
    return this.tensor("int64", BigInt64Array.of(BigInt(value)), []);
  }

  number(value) {
    return this.tensor("float64", Float64Array.of(value), []);
  }

  /** Forget what was played; `style` and `alphas` as `turn` takes them. */
  start(style, alphas) {
    const zeros = ([name, { kind, shape }]) => {
      return [name, this.tensor(kind, new ARRAYS[kind](shape.reduce((size, n) => size * n, 1)), shape)];
    };
    this.position = 0;
    this.memories = Object.fromEntries(Object.entries(this.about.memories).map(zeros));
    this.turn(style, alphas);
    this.now = this.goal;
    this.known = {
      content: this.row(this.goal.style),
      warm_up: this.number(WARM_UP),
      half_life: this.number(Infinity),
      length: this.integer(UNKNOWN),
    };
  }

  /** What the knobs move to: a `style` as the engine gives it, its shares `alphas` at the nine places. */
  turn(style, alphas) {
    this.goal = { style: packed(style, this.about.sets), alphas: Float32Array.from(alphas) };
  }

  row(style) {
    const rows = 2 * this.about.sets;
    return this.tensor("float32", style, [rows, style.length / rows]);
  }

  async run(block) {
    const share = 1 - Math.exp(-block.length / RATE / TURNS);
    this.now = {
      style: toward(this.now.style, this.goal.style, share),
      alphas: toward(this.now.alphas, this.goal.alphas, share),
    };
    const results = await this.session.run({
      block: this.tensor("float32", block, [block.length]),
      position: this.integer(this.position),
      style: this.row(this.now.style),
      alphas: this.tensor("float32", this.now.alphas, [this.now.alphas.length]),
      ...this.known,
      ...this.memories,
    });
    for (const name of Object.keys(this.memories)) this.memories[name] = results[`new_${name}`];
    this.position += block.length;
    return results.out.data;
  }
}

/** The step with a tone, a level, a gate and a loudness that follow the sound. Blocks in, blocks out, `delay` late;
 * `tones`: whether there is ever a tone.
 */
export class Live {
  constructor(ort, session, about, tones) {
    this.step = new Step(ort, session, about);
    this.block = about.block;
    this.tones = tones;
    this.delay = about.delay + (tones ? LATE : 0);
  }

  /** Forget all that was heard. The network hears silence first. */
  async start(style, shares) {
    this.step.start(style, shares.alphas);
    this.tone = new RunningTone();
    this.leveller = new Leveller();
    this.gate = new Gate();
    this.gain = new RunningGain();
    this.highPass = new HighPass();
    this.late = [0, 1, 2].map(() => new Delay(this.delay)); // content, prepared, level
    this.turn(style, shares);
    this.share = this.wanted;
    for (let heard = 0; heard < START; heard += this.block) await this.step.run(new Float32Array(this.block));
  }

  /** From now on another `style`, and other shares of it; if those at all places are 0, the content itself. */
  turn(style, { alphas, tone }) {
    this.step.turn(style, alphas);
    this.toward = [style.tone, tone];
    this.wanted = alphas.some(Boolean) ? 1 : 0;
  }

  /** The next samples in, as many out. */
  async next(block) {
    const levels = this.leveller.of(block);
    const prepared = block.map((x, i) => Math.min(CEILING, Math.max(-CEILING, (x * PEAK) / levels[i])));
    const [content, before, level] = [block, prepared, levels].map((row, n) => this.late[n].passed(row));
    const made = this.highPass.filtered(Float64Array.from(await this.step.run(prepared)));
    const y = this.gate.gated(this.tones ? this.tone.of(made, ...this.toward) : made, before);
    const gains = this.gain.of(before, y);
    const share = line(this.share, this.wanted, block.length);
    this.share = this.wanted;
    return content.map((x, i) => {
      const styled = y[i] * gains[i] * (level[i] / PEAK);
      return Math.min(1, Math.max(-1, share[i] * styled + (1 - share[i]) * x));
    });
  }
}
