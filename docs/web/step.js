// Live, in the worker: the network, block by block, and what stands around it, as mambamuse/use/live.py has it for
// one channel.

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

/** Numbers that move towards others, a `share` of the way at a time. */
function toward(now, goal, share) {
  return now.map((x, i) => x + share * (goal[i] - x));
}

/** The step: the network as one program, with AdaIN at all places, which `machine` runs. */
class Step {
  constructor(machine) {
    this.machine = machine;
  }

  /** Forget what was played; `style` and `alphas` as `turn` takes them. */
  start(style, alphas) {
    this.turn(style, alphas);
    this.now = this.goal;
    this.machine.start();
    this.machine.expect(this.now.style, WARM_UP);
  }

  /** What the knobs move to: a `style` as the engine gives it, its shares `alphas` at the nine places. */
  turn(style, alphas) {
    const rows = ([mean, deviation]) => Float32Array.of(...mean, ...deviation);
    this.goal = { style: style.places.map(rows), alphas: Float32Array.from(alphas) };
  }

  /** The next block in, as many samples out. */
  run(block) {
    const share = 1 - Math.exp(-block.length / RATE / TURNS);
    this.now = {
      style: this.now.style.map((row, place) => toward(row, this.goal.style[place], share)),
      alphas: toward(this.now.alphas, this.goal.alphas, share),
    };
    this.machine.restyle(this.now.style);
    this.machine.alphas.set(this.now.alphas);
    this.machine.give(0, block);
    this.machine.run();
    return this.machine.taken(0);
  }
}

/** The step with a tone, a level, a gate and a loudness that follow the sound. Blocks in, blocks out, `delay` late;
 * `tones`: whether there is ever a tone.
 */
export class Live {
  constructor(machine, tones) {
    const { block, outputs } = machine.about;
    this.step = new Step(machine);
    this.block = block;
    this.tones = tones;
    this.delay = outputs[0].delay + (tones ? LATE : 0);
  }

  /** Forget all that was heard. The network hears silence first. */
  start(style, shares) {
    this.step.start(style, shares.alphas);
    this.tone = new RunningTone();
    this.leveller = new Leveller();
    this.gate = new Gate();
    this.gain = new RunningGain();
    this.highPass = new HighPass();
    this.late = [0, 1, 2].map(() => new Delay(this.delay)); // content, prepared, level
    this.turn(style, shares);
    this.share = this.wanted;
    for (let heard = 0; heard < START; heard += this.block) this.step.run(new Float32Array(this.block));
  }

  /** From now on another `style`, and other shares of it; if those at all places are 0, the content itself. */
  turn(style, { alphas, tone }) {
    this.step.turn(style, alphas);
    this.toward = [style.tone, tone];
    this.wanted = alphas.some(Boolean) ? 1 : 0;
  }

  /** The next samples in, as many out. */
  next(block) {
    const levels = this.leveller.of(block);
    const prepared = block.map((x, i) => Math.min(CEILING, Math.max(-CEILING, (x * PEAK) / levels[i])));
    const [content, before, level] = [block, prepared, levels].map((row, n) => this.late[n].passed(row));
    const made = this.highPass.filtered(Float64Array.from(this.step.run(prepared)));
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
