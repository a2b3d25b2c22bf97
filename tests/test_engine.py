"""The browser's engine without a browser, in Node, with networks whose styles have one set of statistics or
several: what it measures and makes is what Python measures and makes.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_export import clip
from test_streaming import EVERYWHERE, gusts

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import web

from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.use.compiled import CompiledStep
from mambamuse.use.export import channels
from mambamuse.use.levels import PEAK
from mambamuse.use.portable import webassembly
from mambamuse.use.stages import measured_style, restyled
from mambamuse.use.step import Running
from mambamuse.use.streaming import network_for
from mambamuse.use.tone import RunningTone, band_levels

if words := web.missing() or ("" if shutil.which("node") else "there is no node"):
    pytest.skip(words, allow_module_level=True)

PROGRAM = """
import { readFileSync, writeFileSync } from "node:fs";
import { Engine } from "./engine.js";
import { Machine } from "./machine.js";
import { Live } from "./step.js";
import { RunningTone } from "./tone.js";

const read = (name, kind) => new kind(new Uint8Array(readFileSync(name)).buffer);
const about = JSON.parse(readFileSync("about.json"));
const [codes, constants] = [read("programs.i32", Int32Array), read("network.f32", Float32Array)];
const programs = about.programs.map((one) => {
  return { about: one, code: codes.subarray(...one.code), constants: constants.subarray(...one.weights) };
});
const module = new WebAssembly.Module(readFileSync("network.wasm"));
const engine = new Engine(module, programs.slice(0, about.stages));
const [content, style] = [read("content.f32", Float32Array), read("style.f32", Float32Array)];
const found = engine.style(style, engine.encoded(style));
const rows = found.places.flatMap(([mean, deviation]) => [...mean, ...deviation]);
writeFileSync("style.out", Float32Array.from(rows));
const encoded = engine.encoded(content);
writeFileSync("transfer.out", engine.transferred(content, encoded, found, about));
writeFileSync("tone.out", found.tone);
const { step } = new Live(new Machine(module, programs[about.stages]), true);
const { block } = programs[about.stages].about;
const tone = new RunningTone();
const toned = new Float32Array(content.length);
step.start(found, about.alphas);
const heard = new Float32Array(content.length);
for (let at = 0; at < heard.length; at += block) {
  const now = content.slice(at, at + block);
  heard.set(step.run(now), at);
  toned.set(tone.of(now, found.tone, about.tone), at);
}
writeFileSync("toned.out", toned);
writeFileSync("step.out", heard);
"""


@pytest.mark.parametrize("sets", [1, 2, 4])
def test_the_engine_measures_transfers_and_plays_as_python_does(tmp_path, sets):
    rng, model = np.random.default_rng(sets), clip(sets=sets, alphas=tuple(map(float, EVERYWHERE)), tone=0.6)
    content, style = (PEAK * gusts(rng, time) / 0.9 for time in (SAMPLE_RATE // 4 // 256 * 256, 3_001))
    described, code, weights = web.programs(network_for(model))
    (tmp_path / web.MODULE).write_bytes(webassembly())
    code.astype("<i4").tofile(tmp_path / web.PROGRAMS)
    weights.astype("<f4").tofile(tmp_path / web.CONSTANTS)
    about = dict(programs=described, stages=web.STAGES, alphas=EVERYWHERE, tone=model.tone)
    (tmp_path / "about.json").write_text(json.dumps(about))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    names = "engine", "machine", "step", "tone"
    for file in (*(web.HERE / f"{name}.js" for name in names), web.FRONT / "sound.js"):
        shutil.copy2(file, tmp_path)
    (tmp_path / "run.js").write_text(PROGRAM)
    for name, sound in (("content", content), ("style", style)):
        sound.astype("<f4").tofile(tmp_path / f"{name}.f32")
    done = subprocess.run(["node", "run.js"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def made(name):
        return np.fromfile(tmp_path / f"{name}.out", "<f4")

    want = measured_style(model.network(), style)
    places = np.split(want, np.cumsum(channels(model))[:-1], axis=1)
    rows = np.concatenate([place.ravel() for place in places])
    assert np.allclose(made("style"), rows, rtol=1e-4, atol=1e-5)
    tone = band_levels(style[None])
    assert np.allclose(made("tone"), tone, atol=1e-3)
    heard = restyled(model.network(), content[None], want, 1.0, tone=tone)[0]
    untoned = restyled(model.network(), content[None], want, 1.0)[0]
    assert abs(heard - untoned).max() > 1e-3
    assert abs(heard).max() > 0.05 and abs(made("transfer") - heard).max() <= 1e-4
    played = CompiledStep(network_for(model), want, EVERYWHERE, Running(warm_up=0.1), web.BLOCKS[0])
    blocks = np.concatenate([played(block) for block in content.reshape(-1, web.BLOCKS[0])])
    assert abs(made("step") - blocks).max() <= 1e-4
    running = RunningTone(tone, model.tone)
    blocks = np.concatenate([running(block) for block in content.reshape(-1, web.BLOCKS[0])])
    assert abs(made("toned") - blocks).max() <= 1e-4 < abs(blocks - content).max()
