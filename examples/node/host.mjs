// A host in JavaScript, with onnxruntime-node and nothing else.
//
//     mambamuse export exported
//     cd examples/node && npm ci --ignore-scripts
//     node host.mjs ../../exported content.f32 style.f32 out.f32
//
// Sounds are raw float32, mono at 16 kHz, scaled so that their loudest peaks reach 0.9, the model's level. Where
// mambamuse is installed, this makes one of a recording:
//
//     python -c "from mambamuse.use.style import prepared; prepared('voice.wav').tofile('content.f32')"
//
// First the style's graph measures the style; then the step takes the content block by block, as a plug-in gets it.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

const ARRAYS = { float32: Float32Array, float64: Float64Array };

function readSound(path) {
  const bytes = readFileSync(path);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

const int64 = (value) => new Tensor("int64", BigInt64Array.of(BigInt(value)), []);
const float64 = (value) => new Tensor("float64", Float64Array.of(value), []);
const float32 = (values) => new Tensor("float32", Float32Array.from(values), [values.length]);

function zeros({ kind, shape }) {
  return new Tensor(kind, new ARRAYS[kind](shape.reduce((size, n) => size * n, 1)), shape);
}

const [folder, content, style, out] = process.argv.slice(2);
const about = JSON.parse(readFileSync(join(folder, "about.json"), "utf8"));
const [name, step] = Object.entries(about.files).find(([name]) => name.startsWith("step"));
const { block, delay } = step;
const sound = readSound(content);

const one = { intraOpNumThreads: 1 }; // its products are small: threads would wait for each other
const measure = await InferenceSession.create(join(folder, "style.onnx"), one);
const { style: statistics } = await measure.run({ sound: float32(readSound(style)) });

const session = await InferenceSession.create(join(folder, name), one);
const knobs = {
  style: statistics,
  content: statistics,
  alphas: float32(step.alphas),
  warm_up: float64(0.5),
  half_life: float64(Infinity),
  length: int64(Math.max(32, Math.ceil(sound.length / 16) * 16)),
};
let memories = { state: zeros(step.inputs.state), sums: zeros(step.inputs.sums) };
const blocks = Math.ceil((sound.length + delay) / block);
const played = new Float32Array(blocks * block);
for (let position = 0; position < played.length; position += block) {
  const samples = new Float32Array(block);
  samples.set(sound.subarray(position, position + block));
  const now = { block: float32(samples), position: int64(position) };
  const y = await session.run({ ...now, ...knobs, ...memories });
  memories = { state: y.new_state, sums: y.new_sums };
  played.set(y.out.data, position);
}
writeFileSync(out, new Uint8Array(played.slice(delay, delay + sound.length).buffer));
