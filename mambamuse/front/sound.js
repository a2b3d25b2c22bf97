// What is done to samples: level, silence, ends, loudness. The same as mambamuse/use/levels.py and
// mambamuse/sound/loudness.py, for one channel at 16 kHz; tests/test_try.py compares the two.

export const RATE = 16_000;
export const PEAK = 0.9; // of full scale: the level that the model knows
const LIMIT = 0.99; // no sample of an output is larger, unless the content's are

// Level

export const FRAME = RATE / 100; // samples: 10 ms
const FAINTEST = 1e-7; // what lies below, -140 dB, is silence
export const CEILING = 2 * PEAK; // no prepared sample is larger

export function peakOf(sound, start = 0, stop = sound.length) {
  let peak = 0;
  for (let i = start; i < stop; i++) peak = Math.max(peak, Math.abs(sound[i]));
  return peak;
}

/** The peak that lasts for three frames of 10 ms; 0 for silence. */
export function level(sound) {
  const peaks = [];
  for (let start = 0; start < sound.length; start += FRAME) {
    peaks.push(peakOf(sound, start, Math.min(start + FRAME, sound.length)));
  }
  const peak = Math.max(0, ...peaks);
  if (peak < FAINTEST) return 0;
  if (peaks.length < 3) return peak;
  let lasts = 0;
  for (let i = 2; i < peaks.length; i++)
    lasts = Math.max(lasts, Math.min(peaks[i - 2], peaks[i - 1], peaks[i]));
  return lasts > 1e-4 * peak ? lasts : peak;
}

/** `sound` scaled so that the level `loudest` becomes 0.9, and cut off 6 dB above. */
export function levelled(sound, loudest) {
  const scale = loudest ? PEAK / loudest : 0;
  return sound.map((x) => Math.min(CEILING, Math.max(-CEILING, x * scale)));
}

// Beyond the ends

export const START = 1_024; // samples of silence in front of a recording
const END = 1_024; // samples behind it: the sound mirrored and faded out
const STRIDE = 16;

/** `sound` with what stands in front and behind; a multiple of 16 samples. */
export function extend(sound) {
  const time = sound.length;
  const extended = new Float32Array(Math.ceil((START + time + END) / STRIDE) * STRIDE);
  extended.set(sound, START);
  for (let i = 0; i < END && i < time - 1; i++) {
    const fade = Math.fround(0.5 + 0.5 * Math.cos((Math.PI * (i + 1)) / END));
    extended[START + time + i] = sound[time - 2 - i] * fade;
  }
  return extended;
}

// Behind the model

/** A high-pass of first order at 10 Hz, over a sound that comes in blocks: no constant part is left. */
export class HighPass {
  constructor() {
    this.mean = 0;
  }

  filtered(block) {
    const keeps = Math.exp((-2 * Math.PI * 10) / RATE);
    return block.map((x) => {
      this.mean = keeps * this.mean + (1 - keeps) * x;
      return x - this.mean;
    });
  }
}

const OPEN = 2e-4; // of the model's full scale: -74 dB
const HOLD = RATE / 10; // samples
const RELEASE = RATE / 20; // samples

/** Keeps silence silent, block by block: where the content is, for longer than a tenth of a second. */
export class Gate {
  constructor() {
    this.since = HOLD + RELEASE; // samples since the last one that was heard
  }

  /** `block` of an output, silent where that of the `content` is. */
  gated(block, content) {
    return block.map((x, i) => {
      this.since = Math.abs(content[i]) > OPEN ? 0 : Math.min(this.since + 1, HOLD + RELEASE);
      return x * Math.fround(Math.min(1, 1 - (this.since - HOLD) / RELEASE));
    });
  }
}

const START_FADE = (RATE * 3) / 1_000; // samples
const END_FADE = (RATE * 5) / 1_000;

/** `sound` with its two ends faded. */
export function fadedEnds(sound) {
  const time = sound.length;
  return sound.map((x, i) => {
    const gain = Math.min(1, (i + 1) / START_FADE, (time - i) / END_FADE);
    return gain < 1 ? x * Math.fround(0.5 - 0.5 * Math.cos(Math.PI * gain)) : x;
  });
}

const EDGE = (RATE * 5) / 1_000;
const BESIDE = (RATE * 50) / 1_000;
const BACK = RATE / 1_000; // samples

/** `sound` with its first 5 ms no louder than the next 50, beyond what those of `content` are. */
export function heldStart(sound, content) {
  if (sound.length < 2 * EDGE) return sound;
  const peak = (of, start, stop) => Math.max(OPEN, peakOf(of, start, Math.min(stop, of.length)));
  const own = Math.max(1, peak(content, 0, EDGE) / peak(content, EDGE, EDGE + BESIDE));
  const allowed = own * peak(sound, EDGE + BACK, EDGE + BESIDE);
  const gain = Math.min(1, allowed / peak(sound, 0, EDGE));
  const held = sound.slice();
  for (let i = 0; i < EDGE + BACK; i++) {
    const share = i < EDGE ? 0 : (i - EDGE) / (BACK - 1);
    held[i] *= gain + (1 - gain) * share;
  }
  return held;
}

// Loudness (ITU-R BS.1770-4)

/** BS.1770's two filters, as [b0, b1, b2, a1, a2] each. */
function biquads() {
  const shelfGain = 10 ** (3.999843853973347 / 20);
  const middleGain = shelfGain ** 0.4996667741545416;
  const shelf = tangent(1681.974450955533);
  const shelfQ = 0.7071752369554196;
  const a0 = 1 + shelf / shelfQ + shelf ** 2;
  const middle = (middleGain * shelf) / shelfQ;
  const cut = tangent(38.13547087602444);
  const cutQ = 0.5003270373238773;
  return [
    [
      (shelfGain + middle + shelf ** 2) / a0,
      (2 * (shelf ** 2 - shelfGain)) / a0,
      (shelfGain - middle + shelf ** 2) / a0,
      ...feedback(shelf, shelfQ),
    ],
    [1, -2, 1, ...feedback(cut, cutQ)],
  ];
}

function tangent(frequency) {
  return Math.tan((Math.PI * frequency) / RATE);
}

function feedback(k, q) {
  const a0 = 1 + k / q + k ** 2;
  return [(2 * (k ** 2 - 1)) / a0, (1 - k / q + k ** 2) / a0];
}

/** One filter, over a sound that comes in blocks. */
class Biquad {
  constructor(coefficients) {
    this.coefficients = coefficients;
    this.memory = [0, 0, 0, 0];
  }

  filtered(block) {
    const [b0, b1, b2, a1, a2] = this.coefficients;
    let [x1, x2, y1, y2] = this.memory;
    const made = block.map((x) => {
      const y = b0 * x + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2;
      x2 = x1;
      x1 = x;
      y2 = y1;
      y1 = y;
      return y;
    });
    this.memory = [x1, x2, y1, y2];
    return made;
  }
}

/** What an ear makes of a sound that comes in blocks: `filtered(block)`, both filters. */
export class Weighting {
  constructor() {
    this.sections = biquads().map((coefficients) => new Biquad(coefficients));
  }

  filtered(block) {
    return this.sections.reduce((sound, section) => section.filtered(sound), Float64Array.from(block));
  }
}

const average = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;
const lufs = (power) => -0.691 + 10 * Math.log10(Math.max(power, 1e-30));

/** The power of each block of 400 ms, a new one every 100; of a shorter sound its own mean. */
function blockPowers(sound) {
  const power = new Weighting().filtered(sound).map((x) => x * x);
  const hop = RATE / 10;
  const hops = [];
  for (let end = hop; end <= power.length; end += hop) hops.push(average(power.subarray(end - hop, end)));
  if (hops.length < 4) return [average(power)];
  return hops.slice(3).map((_, i) => average(hops.slice(i, i + 4)));
}

/** In LUFS; -Infinity if nothing passes the gates. */
function gatedLoudness(powers) {
  const audible = powers.filter((power) => lufs(power) >= -70);
  if (!audible.length) return -Infinity;
  const gate = lufs(average(audible)) - 10;
  return lufs(average(audible.filter((power) => lufs(power) >= gate)));
}

/** The integrated loudness of `sound` in LUFS. */
export function loudness(sound) {
  return gatedLoudness(blockPowers(sound));
}

/** The gain that gives `sound` the loudness of `like`; 0 where either is silent. */
export function gainTo(sound, like) {
  const [ours, theirs] = [blockPowers(sound), blockPowers(like)];
  const gate = lufs(average(theirs)) - 20;
  let loud = theirs.map((power) => lufs(power) >= -70 && lufs(power) >= gate);
  if (!loud.some(Boolean)) loud = loud.map(() => true);
  const [have, want] = [ours, theirs].map((powers) => average(powers.filter((_, i) => loud[i])));
  if (!(have > 1e-20 && want > 1e-20)) return 0;
  let gain = Math.sqrt(want / have);
  for (let round = 0; round < 20; round++) {
    const missing = gatedLoudness(theirs) - gatedLoudness(ours.map((power) => power * gain ** 2));
    if (!Number.isFinite(missing)) break;
    gain *= 10 ** (missing / 20);
  }
  return Math.fround(gain);
}

/** `sound` as loud as `content`, as far as no sample is above `limit` or the content's largest. */
export function asLoud(sound, content, limit = LIMIT) {
  const wanted = gainTo(sound, content);
  const loud = sound.map((x) => x * wanted);
  const peak = peakOf(loud);
  const allowed = Math.max(limit, peakOf(content));
  return peak > allowed ? loud.map((x) => (x * allowed) / peak) : loud;
}

/** A gain for each of `sounds` that makes all equally loud: as the first, or less, so that none clips. */
export function equalGains(sounds) {
  const louds = sounds.map(loudness);
  const highest = sounds.map((sound, i) => louds[i] + 20 * Math.log10(LIMIT / Math.max(peakOf(sound), 1e-9)));
  const goal = Math.min(louds[0], ...highest.filter(Number.isFinite));
  return louds.map((loud) =>
    Number.isFinite(loud) && Number.isFinite(goal) ? 10 ** ((goal - loud) / 20) : 1,
  );
}

// A file

/** `sound` as a WAV file of 16-bit samples. */
export function wav(sound) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * sound.length));
  const text = (at, words) => [...words].forEach((letter, i) => bytes.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * sound.length, true);
  text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true); // PCM
  bytes.setUint16(22, 1, true); // channels
  bytes.setUint32(24, RATE, true);
  bytes.setUint32(28, 2 * RATE, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  text(36, "data");
  bytes.setUint32(40, 2 * sound.length, true);
  sound.forEach((x, i) =>
    bytes.setInt16(44 + 2 * i, Math.round(32_767 * Math.min(1, Math.max(-1, x))), true),
  );
  return new Blob([bytes], { type: "audio/wav" });
}
