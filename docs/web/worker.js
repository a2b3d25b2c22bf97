// Computes beside the page, so that the page answers meanwhile: a request in, progress and sound out.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { Engine, mixed, unpacked } from "./engine.js";
import { asLoud, level, levelled, PEAK } from "./sound.js";

const LIMIT = 0.99; // of full scale
ort.env.wasm.numThreads = 1; // more need a page with headers that a plain file host does not send
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
    styles.set(sound.name, await engine.style(await engine.encoded(prepared, tick), tick));
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

/** The output for what was asked, as mambamuse's transfer gives it: as loud as the content. */
async function transfer({ content, styles: [first, second], mix, alpha, alphas }, tick) {
  if (!alpha) return content.samples;
  await opened();
  const needed = [mix < 1 ? first : null, mix > 0 ? second : null].filter(Boolean);
  const passes = 1 + needed.filter((sound) => !styles.has(sound.name)).length;
  let done = 0;
  const found = [];
  for (const sound of needed) {
    const known = styles.has(sound.name);
    found.push(await styleOf(sound, (share) => tick((done + share) / passes)));
    done += known ? 0 : 1;
  }
  const style = found.length === 2 ? mixed(found[0], found[1], mix) : found[0];
  const loudest = level(content.samples);
  const prepared = levelled(content.samples, loudest);
  const going = (share) => tick((done + share) / passes);
  const encoded = await encodedOf(content, prepared, going);
  const shares = alphas.map((share) => alpha * share);
  const made = await engine.transferred(prepared, encoded, style, shares, going);
  const scale = Math.fround(loudest / PEAK);
  return asLoud(made, prepared, LIMIT / scale).map((x) => x * scale);
}

let queue = Promise.resolve(); // one at a time

self.onmessage = ({ data: { id, request } }) => {
  queue = queue.then(async () => {
    try {
      const made = await transfer(request, (share) => self.postMessage({ id, share }));
      self.postMessage({ id, made });
    } catch (error) {
      self.postMessage({ id, error: error.message });
    }
  });
};
