// Computes beside the page, so that the page answers meanwhile: a request in, progress and sound out.

import { Engine, mixed, unpacked } from "./engine.js";
import { Machine } from "./machine.js";
import { Live } from "./step.js";
import { asLoud, level, levelled, PEAK, peakOf, RATE } from "./sound.js";

const LIMIT = 0.99; // of full scale

/** The bytes of the page's own file `name`. */
async function fetched(name) {
  const answer = await fetch(new URL(name, import.meta.url)).catch(() => {
    throw new Error(`${name}: the page's own file cannot be reached`);
  });
  if (!answer.ok) throw new Error(`${name}: the page's own file cannot be loaded (${answer.status})`);
  return answer.arrayBuffer();
}

const REST = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** The CRC-32 of `bytes`, as zlib has it. */
function checksum(bytes) {
  let sum = ~0;
  for (const byte of bytes) sum = REST[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** The file `name`, if it came whole. */
async function whole(name, sum) {
  const data = await fetched(name);
  if (checksum(new Uint8Array(data)) !== sum) throw new Error(`${name}: damaged on its way; reload the page`);
  return data;
}

/** The programs that `about` describes, of the instructions `codes` and `constants` of all. */
function programs(about, codes, constants) {
  return about.programs.map((one) => ({
    about: one,
    code: codes.subarray(...one.code),
    constants: constants.subarray(...one.weights),
  }));
}

let engine = null;

/** The network is there, from now on. */
async function opened() {
  if (engine) return;
  const about = JSON.parse(new TextDecoder().decode(await fetched("about.json")));
  const names = ["network.wasm", "programs.i32", "network.f32", "styles.f32"];
  const [compiled, codes, constants, numbers] = await Promise.all(
    names.map((name) => whole(name, about.files[name])),
  );
  const module = await WebAssembly.compile(compiled);
  const found = programs(about, new Int32Array(codes), new Float32Array(constants));
  const rows = unpacked(new Float32Array(numbers), about.widths, about.sets);
  rows.forEach((style, n) => styles.set(about.styles[n], style));
  const [stages, steps] = [found.slice(0, about.stages), found.slice(about.stages)];
  engine = Object.assign(new Engine(module, stages), { about, module, steps });
}

const styles = new Map(); // by the sounds' names; those to choose from are known
let last = { name: null }; // the content that was encoded last

/** The style of `sound`, measured once. */
function styleOf(sound, tick) {
  if (!styles.has(sound.name)) {
    const prepared = levelled(sound.samples, level(sound.samples));
    styles.set(sound.name, engine.style(prepared, engine.encoded(prepared, tick), tick));
  }
  return styles.get(sound.name);
}

function encodedOf(sound, prepared, tick) {
  if (last.name !== sound.name) {
    last = { name: null };
    last = { name: sound.name, encoded: engine.encoded(prepared, tick) };
  }
  return last.encoded;
}

/** The sounds whose styles are mixed. */
function needed({ styles: [first, second], mix }) {
  return [mix < 1 ? first : null, mix > 0 ? second : null].filter(Boolean);
}

/** The style that is asked for; `tick` is told how many passes of the network are done. */
function styleAsked(request, tick = () => {}) {
  const found = [];
  let done = 0;
  for (const sound of needed(request)) {
    const known = styles.has(sound.name);
    found.push(styleOf(sound, (share) => tick(done + share)));
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
  const style = styleAsked(request, (done) => tick(done / passes));
  const loudest = level(content.samples);
  const prepared = levelled(content.samples, loudest);
  const going = (share) => tick((passes - 1 + share) / passes);
  const encoded = encodedOf(content, prepared, going);
  const made = engine.transferred(prepared, encoded, style, shares(request), going);
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

function liveOf(block) {
  if (live?.block !== block) {
    const program = engine.steps.find(({ about }) => about.block === block);
    live = new Live(new Machine(engine.module, program), engine.about.tone > 0);
  }
  return live;
}

function quantile(times, share) {
  const sorted = Float64Array.from(times).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/** Seconds for each of some blocks of noise. */
function timed(live) {
  live.start(styles.values().next().value, shares({ alpha: 1, alphas: Array(9).fill(1) }));
  const times = [];
  for (let n = 0; n < WARM + TRIED; n++) {
    const block = Float32Array.from({ length: live.block }, () => Math.random() - 0.5);
    const began = performance.now();
    live.next(block);
    times.push((performance.now() - began) / 1_000);
  }
  return times.slice(WARM);
}

/** How long this machine takes for a block: the smallest that it computes in time, or else the largest. */
async function measure() {
  await opened();
  let found;
  for (const { block } of engine.steps.map(({ about }) => about)) {
    const { delay } = liveOf(block);
    const times = timed(live);
    const keeps = quantile(times, 0.9) < (KEEPS * block) / RATE;
    found = { block, delay, keeps, length: block / RATE, p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
    if (keeps) break;
  }
  return found;
}

/** A block that came through the port, played; from time to time a report. */
function played({ at, samples, missed }) {
  const { port, times } = playing;
  const began = performance.now();
  const made = live.next(samples);
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
  await opened();
  liveOf(block).start(styleAsked(request), shares(request));
  const now = { port, times: [], peaks: [0, 0], reported: 0 };
  playing = now;
  port.onmessage = ({ data }) => {
    if (playing !== now) return;
    try {
      played(data);
    } catch (error) {
      playing = null;
      self.postMessage({ report: { error: error.message } });
    }
  };
}

async function turn({ request }) {
  const style = styleAsked(request);
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
