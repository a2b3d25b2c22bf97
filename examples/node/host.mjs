// A host in JavaScript, with onnxruntime-node and nothing else.
//
//     mambamuse export exported                # needs pip install 'mambamuse[torch]'; the rest does not
//     npm ci --ignore-scripts --prefix examples/node
//     node examples/node/host.mjs exported content.f32 style.f32 out.f32
//
// Sounds are raw float32, mono at 16 kHz, scaled so that their loudest peaks reach 0.9, the model's level. Where
// mambamuse is installed, this makes one of a recording:
//
//     python -c "from mambamuse.use.style import prepared; prepared('voice.wav').tofile('content.f32')"
//
// First the style's graph measures the style; then the step takes the content block by block, as a plug-in gets it.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

const ARRAYS = { float32: Float32Array, float64: Float64Array };

const SHORTEST = 800; // samples, 0.05 s: less of a style is no timbre

function refuse(line) {
  console.error(line);
  process.exit(1);
}

/** The samples of a file of raw float32. Exits with a line if they are no sound, or fewer than `shortest`. */
function readSound(path, shortest = 0) {
  const bytes = readFileSync(path);
  const end = bytes.byteOffset + 4 * Math.floor(bytes.byteLength / 4);
  const sound = new Float32Array(bytes.buffer.slice(bytes.byteOffset, end));
  if (!sound.every((sample) => Math.abs(sample) <= 2)) refuse(`${path}: not raw float32 of about -1 to 1; see the head of this file`);
  if (sound.length < shortest) refuse(`${path}: ${sound.length} samples, at least ${shortest} are needed`);
  return sound;
}

const int64 = (value) => new Tensor("int64", BigInt64Array.of(BigInt(value)), []);
const float64 = (value) => new Tensor("float64", Float64Array.of(value), []);
const float32 = (values) => new Tensor("float32", Float32Array.from(values), [values.length]);

function zeros({ kind, shape }) {
  return new Tensor(kind, new ARRAYS[kind](shape.reduce((size, n) => size * n, 1)), shape);
}

const [folder, content, style, out] = process.argv.slice(2);
for (const path of [join(folder, "about.json"), content, style]) {
  if (!existsSync(path)) refuse(`${path}: no such file`);
}
const about = JSON.parse(readFileSync(join(folder, "about.json"), "utf8"));
const [name, step] = Object.entries(about.files).find(([name]) => name.startsWith("step"));
const { block, delay } = step;
const sound = readSound(content);
const example = readSound(style, SHORTEST);

const one = { intraOpNumThreads: 1 }; // its products are small: threads would wait for each other
const measure = await InferenceSession.create(join(folder, "style.onnx"), one);
const { style: statistics } = await measure.run({ sound: float32(example) });

const session = await InferenceSession.create(join(folder, name), one);
const given = {
  style: statistics,
  content: statistics,
  alphas: float32(step.alphas),
  warm_up: float64(0.5),
  half_life: float64(Infinity),
  length: int64(Math.max(32, Math.ceil(sound.length / 16) * 16)),
};
const wanted = (name) => name in step.inputs; // without AdaIN there are fewer
const knobs = Object.fromEntries(Object.entries(given).filter(([name]) => wanted(name)));
const kept = ["state", "sums"].filter(wanted);
let memories = Object.fromEntries(kept.map((name) => [name, zeros(step.inputs[name])]));
const blocks = Math.ceil((sound.length + delay) / block);
const played = new Float32Array(blocks * block);
for (let position = 0; position < played.length; position += block) {
  const samples = new Float32Array(block);
  samples.set(sound.subarray(position, position + block));
  const now = { block: float32(samples), position: int64(position) };
  const y = await session.run({ ...now, ...knobs, ...memories });
  memories = Object.fromEntries(kept.map((name) => [name, y[`new_${name}`]]));
  played.set(y.out.data, position);
}
writeFileSync(out, new Uint8Array(played.slice(delay, delay + sound.length).buffer));
