// Tone: the output's five bands move a share of the way to the style's, as mambamuse/use/tone.py has it.

import { RATE } from "./sound.js";

const EDGES = [950, 1_700, 2_900, 4_800]; // Hz, between the bands
const TAPS = 31;
export const LATE = (TAPS - 1) / 2; // samples: what comes out of `RunningTone` is that late
const FAINTEST = 1e-9; // of all power: what a band has at least
const MOST = 20; // dB: a difference counts up to here
const WARM_UP = 0.1; // seconds of sound that the style's own levels stand for
const SILENT = 1e-9; // power up to which a block says nothing about its tone

const at = (make) => Float64Array.from({ length: TAPS }, (_, i) => make(i));
const total = (values) => values.reduce((sum, x) => sum + x, 0);

/** The low-pass at `frequency` Hz: a sinc under a Hamming window. */
function lowPass(frequency) {
  const response = at((i) => {
    const x = ((2 * Math.PI * frequency) / RATE) * (i - LATE);
    return (x ? Math.sin(x) / x : 1) * (0.54 - 0.46 * Math.cos((2 * Math.PI * i) / (TAPS - 1)));
  });
  const sum = total(response);
  return response.map((x) => x / sum);
}

const LOWS = [at(() => 0), ...EDGES.map(lowPass), at((i) => (i === LATE ? 1 : 0))];
const BANDS = LOWS.slice(1).map((low, band) => low.map((x, i) => x - LOWS[band][i]));
export const COUNT = BANDS.length; // numbers of a tone

/** A band's power is the sum of these, times the sound's products at each lag. */
const LAGS = BANDS.map((band) =>
  at((lag) => (lag ? 2 : 1) * total(band.subarray(lag).map((x, i) => x * band[i]))),
);

/** The products of samples with those up to 30 before them, summed over the blocks of a sound. */
class Products {
  constructor() {
    this.before = new Float64Array(TAPS - 1);
    this.sums = new Float64Array(TAPS);
  }

  push(block) {
    const x = behind(this.before, block);
    for (let lag = 0; lag < TAPS; lag++) {
      let sum = 0;
      for (let i = TAPS - 1; i < x.length; i++) sum += x[i] * x[i - lag];
      this.sums[lag] += sum;
    }
    this.before = x.slice(block.length);
  }

  /** The level of each band in dB, against all. */
  levels() {
    const powers = LAGS.map((lags) => Math.max(0, total(lags.map((x, lag) => x * this.sums[lag]))));
    const all = Math.max(total(powers), 1e-30);
    return powers.map((power) => 10 * Math.log10(power / all + FAINTEST));
  }
}

/** `before`, and the samples `block` behind it. */
function behind(before, block) {
  const x = new Float64Array(before.length + block.length);
  x.set(before);
  x.set(block, before.length);
  return x;
}

/** `x` through the impulse response; as many samples as come out with all of it. */
function passed(x, response) {
  const made = new Float64Array(x.length - TAPS + 1);
  for (let i = 0; i < made.length; i++) {
    let sum = 0;
    for (let k = 0; k < TAPS; k++) sum += response[k] * x[i + TAPS - 1 - k];
    made[i] = sum;
  }
  return made;
}

/** The level of each of five bands of `sound`, in dB against all five. */
export function bandLevels(sound) {
  const products = new Products();
  products.push(sound);
  return Float32Array.from(products.levels());
}

/** The powers of bands with `levels` in dB, whose sum is 1: those of a mix have another sum. */
function shares(levels) {
  const powers = Array.from(levels, (level) => 10 ** (level / 10));
  const sum = total(powers);
  return powers.map((power) => power / sum);
}

/** The impulse response that moves a sound with levels `own` the `share` of the way to those of the `style`. */
function correction(own, style, share) {
  const [powers, wanted] = [own, style].map(shares);
  const apart = powers.map((power, band) => 10 * Math.log10(wanted[band] / power));
  const gains = apart.map((decibels) => 10 ** ((share * Math.min(MOST, Math.max(-MOST, decibels))) / 20));
  const power = total(powers.map((power, band) => power * gains[band] ** 2));
  return at((i) => total(BANDS.map((band, n) => gains[n] * band[i])) / Math.sqrt(power));
}

/** `sound` with its band levels moved the `share` of the way to those of the `style`. */
export function toned(sound, style, share) {
  const response = correction(bandLevels(sound), style, share);
  const around = new Float64Array(sound.length + TAPS - 1);
  around.set(sound, LATE);
  return Float32Array.from(passed(around, response));
}

/** `toned` for a stream, by what was heard of it so far; `LATE` samples late. */
export class RunningTone {
  constructor() {
    this.heard = new Products();
    this.seconds = 0;
    this.before = new Float64Array(TAPS - 1);
    this.response = at((i) => (i === LATE ? 1 : 0));
  }

  /** The next samples in, as many out, on the way to `style` by `share`. */
  of(block, style, share) {
    if (total(block.map((x) => x * x)) / block.length > SILENT) {
      this.heard.push(block);
      this.seconds += block.length / RATE;
    }
    const known = this.seconds / (this.seconds + WARM_UP);
    const own = this.heard.levels().map((level, band) => style[band] + known * (level - style[band]));
    const old = this.response;
    this.response = correction(own, style, share);
    const x = behind(this.before, block);
    this.before = x.slice(block.length);
    const [first, last] = [old, this.response].map((response) => passed(x, response));
    return first.map((y, i) => y + ((i + 1) / block.length) * (last[i] - y));
  }
}
