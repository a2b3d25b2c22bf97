// A sound as a picture: its waveform above its mel spectrogram, with axes.

import { RATE } from "./sound.js";

const FFT = 1_024; // samples
const HOP = 128;
const BANDS = 80; // up to 8 kHz
const RANGE = 80; // dB below the loudest point
const ROOM = { left: 34, right: 6, top: 4, bottom: 18 }; // CSS pixels around a picture
const KILOHERTZ = [0.5, 1, 2, 4, 8];

/** Slaney's mel scale: straight up to 1 kHz, logarithmic above. */
function mel(frequency) {
  return frequency < 1_000 ? (3 * frequency) / 200 : 15 + (27 * Math.log(frequency / 1_000)) / Math.log(6.4);
}

function hertz(mels) {
  return mels < 15 ? (200 * mels) / 3 : 1_000 * Math.exp(((mels - 15) * Math.log(6.4)) / 27);
}

/** For each band, triangles over the bins of the transform: pairs of the first bin and its weights. */
const triangles = Array.from({ length: BANDS }, (_, band) => {
  const [low, middle, high] = [0, 1, 2].map((i) => hertz(((band + i) * mel(RATE / 2)) / (BANDS + 1)));
  const bin = RATE / FFT;
  const first = Math.ceil(low / bin);
  const weights = [];
  for (let at = first; at * bin < high; at++) {
    const f = at * bin;
    weights.push(Math.min((f - low) / (middle - low), (high - f) / (high - middle)) / (high - low));
  }
  return [first, weights];
});

function swap(values, i, j) {
  const kept = values[i];
  values[i] = values[j];
  values[j] = kept;
}

const cosines = Float64Array.from({ length: FFT / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / FFT));
const sines = Float64Array.from({ length: FFT / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / FFT));

/** The discrete Fourier transform of `FFT` numbers, in place. */
function transform(re, im) {
  for (let i = 1, j = 0; i < FFT; i++) {
    let bit = FFT >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      swap(re, i, j);
      swap(im, i, j);
    }
  }
  for (let half = 1; half < FFT; half *= 2) {
    for (let k = 0; k < half; k++) {
      const c = cosines[(k * FFT) / (2 * half)];
      const s = sines[(k * FFT) / (2 * half)];
      for (let a = k; a < FFT; a += 2 * half) {
        const b = a + half;
        const x = re[b] * c - im[b] * s;
        const y = re[b] * s + im[b] * c;
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

const hann = Float64Array.from({ length: FFT }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / FFT));

/** The mel spectrogram of `sound` in dB below its loudest point, a row of `BANDS` for every 8 ms. */
export function melSpectrogram(sound) {
  const frames = Math.floor(sound.length / HOP) + 1;
  const power = new Float64Array(frames * BANDS);
  const [re, im] = [new Float64Array(FFT), new Float64Array(FFT)];
  for (let frame = 0; frame < frames; frame++) {
    const start = frame * HOP - FFT / 2;
    for (let i = 0; i < FFT; i++) re[i] = (sound[start + i] ?? 0) * hann[i];
    im.fill(0);
    transform(re, im);
    triangles.forEach(([first, weights], band) => {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        sum += weights[i] * (re[first + i] ** 2 + im[first + i] ** 2);
      }
      power[frame * BANDS + band] = sum;
    });
  }
  const loudest = power.reduce((most, x) => Math.max(most, x), 1e-20);
  return power.map((x) => 10 * Math.log10(x / loudest + 1e-12));
}

const COLOURS = [
  [10, 6, 30],
  [87, 21, 126],
  [182, 54, 121],
  [251, 136, 97],
  [252, 253, 191],
]; // dark to bright

/** 256 colours, red, green, blue and opacity each. */
const palette = Uint8ClampedArray.from({ length: 4 * 256 }, (_, i) => {
  if (i % 4 === 3) return 255;
  const at = (Math.floor(i / 4) / 256) * (COLOURS.length - 1);
  const [a, b] = [COLOURS[Math.floor(at)], COLOURS[Math.floor(at) + 1]];
  return a[i % 4] + (at % 1) * (b[i % 4] - a[i % 4]);
});

/** The spectrogram as an image, a pixel for 8 ms and a band. */
function melImage(sound) {
  const decibels = melSpectrogram(sound);
  const frames = decibels.length / BANDS;
  const image = new OffscreenCanvas(frames, BANDS);
  const pixels = new ImageData(frames, BANDS);
  for (let i = 0; i < decibels.length; i++) {
    const [frame, band] = [Math.floor(i / BANDS), i % BANDS];
    const share = Math.max(0, 1 + decibels[i] / RANGE);
    const shade = 4 * Math.min(255, Math.floor(256 * share));
    pixels.data.set(palette.subarray(shade, shade + 4), 4 * ((BANDS - 1 - band) * frames + frame));
  }
  image.getContext("2d").putImageData(pixels, 0, 0);
  return image;
}

/** Where time 0 and the sound's end are in a picture of `width`: the cursor is drawn between them. */
export function span(width) {
  return [ROOM.left, width - ROOM.right];
}

/** A step between marks so that about five of them are in `seconds`. */
function step(seconds) {
  return [0.05, 0.1, 0.2, 0.5, 1, 2, 5].find((size) => seconds / size <= 6) ?? 10;
}

/** A canvas that shows a sound; `show(sound)` draws it, `redraw()` after a change of size or colours. */
export class Picture {
  constructor(label) {
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `waveform and mel spectrogram of the ${label}`);
    this.sound = null;
  }

  show(sound) {
    this.sound = sound;
    this.image = sound && melImage(sound);
    this.redraw();
  }

  redraw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    if (!this.sound) return;
    const style = getComputedStyle(this.canvas);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = pen.strokeStyle = style.color;
    const waveHeight = height * 0.3;
    const melTop = waveHeight + 8;
    this.drawWave(pen, width, waveHeight, style.getPropertyValue("--front-accent"));
    this.drawMel(pen, width, melTop, height);
    this.drawTime(pen, width, height);
  }

  drawWave(pen, width, height, accent) {
    const [left, right] = span(width);
    const middle = (ROOM.top + height) / 2;
    const reach = (height - ROOM.top) / 2;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    [1, 0, -1].forEach((mark) => pen.fillText(String(mark), left - 5, middle - mark * (reach - 5)));
    const ink = pen.fillStyle;
    pen.fillStyle = accent || ink;
    for (let x = left; x < right; x++) {
      const from = Math.floor(((x - left) * this.sound.length) / (right - left));
      const to = Math.max(from + 1, Math.floor(((x + 1 - left) * this.sound.length) / (right - left)));
      let [low, high] = [1, -1];
      for (let i = from; i < to; i++) {
        low = Math.min(low, this.sound[i]);
        high = Math.max(high, this.sound[i]);
      }
      pen.fillRect(x, middle - high * reach, 1, Math.max(1, (high - low) * reach));
    }
    pen.fillStyle = ink;
  }

  drawMel(pen, width, top, height) {
    const [left, right] = span(width);
    const bottom = height - ROOM.bottom;
    pen.drawImage(this.image, left, top, right - left, bottom - top);
    KILOHERTZ.forEach((mark) => {
      const y = bottom - ((bottom - top) * mel(1_000 * mark)) / mel(RATE / 2);
      pen.fillText(mark === 8 ? "8 kHz" : String(mark), left - 4, Math.max(y, top + 5));
    });
  }

  drawTime(pen, width, height) {
    const [left, right] = span(width);
    const seconds = this.sound.length / RATE;
    pen.textAlign = "center";
    pen.textBaseline = "bottom";
    for (let mark = 0; mark <= seconds + 1e-9; mark += step(seconds)) {
      const x = left + ((right - left) * mark) / seconds;
      pen.fillRect(x, height - ROOM.bottom, 1, 3);
      const name = String(Number(mark.toFixed(2)));
      const last = mark + step(seconds) > seconds;
      pen.fillText(last ? `${name} s` : name, Math.min(x, right - 10), height);
    }
  }
}
