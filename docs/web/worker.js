// Computes beside the page, so that the page answers meanwhile: a request in, progress and sound out.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { Engine, OPTIONS, mixed, unpacked } from "./engine.js";
import { Live } from "./step.js";
import { asLoud, level, levelled, PEAK, peakOf, RATE } from "./sound.js";

const LIMIT = 0.99; // of full scale
ort.env.wasm.numThreads = 1; // docs/web.py says why
ort.env.wasm.wasmPaths = { wasm: new URL("./ort-wasm-simd-threaded.wasm", import.meta.url).href };

async function fetched(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: the page's own file cannot be loaded (${answer.status})`);
  return answer.arrayBuffer().then((buffer) => new Uint8Array(buffer));
}

let engine = null;

async function opened() {
  if (!engine) {
    const about = JSON.parse(new TextDecoder().decode(await fetched("about.json")));
    const numbers = new Float32Array((await fetched("styles.f32")).buffer);
    unpacked(numbers, about.widths, about.sets).forEach((style, n) => styles.set(about.styles[n], style));
    engine = new Engine(ort, about, fetched);
  }
}

const styles = new Map(); // by the sounds' names; those to choose from are known
let last = { name: null }; // the content that was encoded last

/** The style of `sound`, measured once. */
async function styleOf(sound, tick) {
  if (!styles.has(sound.name)) {
    const prepared = levelled(sound.samples, level(sound.samples));
    styles.set(sound.name, await engine.style(prepared, await engine.encoded(prepared, tick), tick));
  }
  return styles.get(sound.name);
}

async function encodedOf(sound, prepared, tick) {
  if (last.name !== sound.name) {
    last = { name: null };
    last = { name: sound.name, encoded: await engine.encoded(prepared, tick) };
  }
  return last.encoded;
}

/** The sounds whose styles are mixed. */
function needed({ styles: [first, second], mix }) {
  return [mix < 1 ? first : null, mix > 0 ? second : null].filter(Boolean);
}

/** The style that is asked for; `tick` is told how many passes of the network are done. */
async function styleAsked(request, tick = () => {}) {
  const found = [];
  let done = 0;
  for (const sound of needed(request)) {
    const known = styles.has(sound.name);
    found.push(await styleOf(sound, (share) => tick(done + share)));
    done += known ? 0 : 1;
  }
  return found.length === 2 ? mixed(found[0], found[1], request.mix) : found[0];
}

/** The shares of a style: `alphas` at the nine places, and that of its `tone`. */
function shares({ alpha, alphas }) {
  return { alphas: alphas.map((share) => alpha * share), tone: alpha * engine.about.tone };
}

/** The output for what was asked, as mambamuse's transfer gives it: as loud as the content. */
async function transfer({ request }, tick) {
  const { content } = request;
  if (!request.alpha) return content.samples;
  await opened();
  const passes = 1 + needed(request).filter((sound) => !styles.has(sound.name)).length;
  const style = await styleAsked(request, (done) => tick(done / passes));
  const loudest = level(content.samples);
  const prepared = levelled(content.samples, loudest);
  const going = (share) => tick((passes - 1 + share) / passes);
  const encoded = await encodedOf(content, prepared, going);
  const made = await engine.transferred(prepared, encoded, style, shares(request), going);
  const scale = Math.fround(loudest / PEAK);
  return asLoud(made, prepared, LIMIT / scale).map((x) => x * scale);
}

// Live

const TRIED = 40; // blocks that are computed to see how long that takes
const WARM = 8; // blocks before these
const KEEPS = 0.8; // of a block's length: what computing it may take, nine times in ten
const REPORTS = 0.25; // seconds between two reports
const RECENT = 400; // blocks that a report is about

let live = null; // the step that was opened last
let playing = null; // what is played now

async function liveOf(block) {
  await opened();
  if (live?.block !== block) {
    await live?.step.session.release();
    const about = engine.about.live.find((one) => one.block === block);
    const session = await ort.InferenceSession.create(await fetched(about.file), OPTIONS);
    live = new Live(ort, session, about, engine.about.tone > 0);
  }
  return live;
}

function quantile(times, share) {
  const sorted = Float64Array.from(times).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/** Seconds for each of some blocks of noise. */
async function timed(live) {
  await live.start(styles.values().next().value, shares({ alpha: 1, alphas: Array(9).fill(1) }));
  const times = [];
  for (let n = 0; n < WARM + TRIED; n++) {
    const block = Float32Array.from({ length: live.block }, () => Math.random() - 0.5);
    const began = performance.now();
    await live.next(block);
    times.push((performance.now() - began) / 1_000);
  }
  return times.slice(WARM);
}

/** How long this machine takes for a block: the smallest that it computes in time, or else the largest. */
async function measure() {
  await opened();
  let found;
  for (const { block } of engine.about.live) {
    const { delay } = await liveOf(block);
    const times = await timed(live);
    const keeps = quantile(times, 0.9) < (KEEPS * block) / RATE;
    found = { block, delay, keeps, length: block / RATE, p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
    if (keeps) break;
  }
  return found;
}

/** A block that came through the port, played; from time to time a report. */
async function played({ at, samples, missed }) {
  const { port, times } = playing;
  const began = performance.now();
  const made = await live.next(samples);
  times.push((performance.now() - began) / 1_000);
  playing.peaks = [samples, made].map((sound, n) => Math.max(playing.peaks[n], peakOf(sound)));
  port.postMessage({ at, samples: made }, [made.buffer]);
  if (began < playing.reported + 1_000 * REPORTS) return;
  playing.times = times.slice(-RECENT);
  const [p50, p99] = [0.5, 0.99].map((share) => quantile(playing.times, share));
  const { peaks } = playing;
  const [blocks, length] = [at / live.block + 1, live.block / RATE];
  self.postMessage({ report: { p50, p99, blocks, missed, peaks, length } });
  Object.assign(playing, { reported: began, peaks: [0, 0] });
}

/** From now on blocks come through `port`, and go back with the style. */
async function play({ request, block, port }) {
  await liveOf(block);
  await live.start(await styleAsked(request), shares(request));
  const now = { port, times: [], peaks: [0, 0], reported: 0 };
  playing = now;
  let queued = Promise.resolve(); // one after the other
  port.onmessage = ({ data }) => {
    queued = queued.then(async () => {
      if (playing !== now) return;
      try {
        await played(data);
      } catch (error) {
        playing = null;
        self.postMessage({ report: { error: error.message } });
      }
    });
  };
}

async function turn({ request }) {
  const style = await styleAsked(request);
  if (playing) live.turn(style, shares(request));
}

async function end() {
  playing?.port.close();
  playing = null;
}

const ANSWERS = { transfer, measure, play, turn, end };
let queue = Promise.resolve(); // one at a time

self.onmessage = ({ data: { id, what, given } }) => {
  queue = queue.then(async () => {
    try {
      const made = await ANSWERS[what](given, (share) => self.postMessage({ id, share }));
      self.postMessage({ id, made });
    } catch (error) {
      self.postMessage({ id, error: error.message });
    }
  });
};
