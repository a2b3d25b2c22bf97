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
from mambamuse.use.export import channels, stage_models, step_model
from mambamuse.use.levels import PEAK
from mambamuse.use.stages import measured_style, restyled
from mambamuse.use.step import STAGE_FORMAT, Running, Step, session_of
from mambamuse.use.tone import RunningTone, band_levels

if words := web.missing() or ("" if shutil.which("node") else "there is no node"):
    pytest.skip(words, allow_module_level=True)

PROGRAM = """
import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "RUNTIME";
import { Engine, OPTIONS } from "./engine.js";
import { Live, packed } from "./step.js";
import { RunningTone } from "./tone.js";

ort.env.wasm.numThreads = 1;
const sound = (name) => new Float32Array(new Uint8Array(readFileSync(name)).buffer);
const about = JSON.parse(readFileSync("about.json"));
const engine = new Engine(ort, about, async (name) => new Uint8Array(readFileSync(name)));
const [content, style] = [sound("content.f32"), sound("style.f32")];
const found = await engine.style(style, await engine.encoded(style));
writeFileSync("style.out", packed(found, about.sets));
const encoded = await engine.encoded(content);
writeFileSync("transfer.out", await engine.transferred(content, encoded, found, about));
writeFileSync("tone.out", found.tone);
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync("step.onnx")), OPTIONS);
const { step } = new Live(ort, session, about.live, true);
const tone = new RunningTone();
const toned = new Float32Array(content.length);
step.start(found, about.alphas);
const heard = new Float32Array(content.length);
for (let at = 0; at < heard.length; at += about.live.block) {
  const block = content.slice(at, at + about.live.block);
  heard.set(await step.run(block), at);
  toned.set(tone.of(block, found.tone, about.tone), at);
}
writeFileSync("toned.out", toned);
writeFileSync("step.out", heard);
"""


@pytest.mark.parametrize("sets", [1, 2, 4])
def test_the_engine_measures_transfers_and_plays_as_python_does(tmp_path, sets):
    rng, model = np.random.default_rng(sets), clip(sets=sets, alphas=tuple(map(float, EVERYWHERE)), tone=0.6)
    content, style = (PEAK * gusts(rng, time) / 0.9 for time in (SAMPLE_RATE // 4 // 256 * 256, 3_001))
    for name, graph in enumerate(stage_models(model, web.STAGE_BLOCK)):
        (tmp_path / f"stage-{name}.onnx").write_bytes(web.light(graph).SerializeToString())
    step = step_model(model, 256).SerializeToString()
    (tmp_path / "step.onnx").write_bytes(step)
    stages = [session_of(tmp_path / f"stage-{n}.onnx", STAGE_FORMAT) for n in range(6)]
    about = dict(stages=[web.described(stage) for stage in stages], widths=channels(model), sets=sets)
    about |= dict(alphas=EVERYWHERE, tone=model.tone, live=web.live("step.onnx", step))
    (tmp_path / "about.json").write_text(json.dumps(about))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for file in (*(web.HERE / f"{name}.js" for name in ("engine", "step", "tone")), web.FRONT / "sound.js"):
        shutil.copy2(file, tmp_path)
    runtime = (web.RUNTIME / "dist" / web.RUNTIME_FILES[0]).as_uri()
    (tmp_path / "run.js").write_text(PROGRAM.replace("RUNTIME", runtime))
    for name, sound in (("content", content), ("style", style)):
        sound.astype("<f4").tofile(tmp_path / f"{name}.f32")
    done = subprocess.run(["node", "run.js"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def made(name):
        return np.fromfile(tmp_path / f"{name}.out", "<f4")

    want = measured_style(model.network(), style)
    assert np.allclose(made("style").reshape(want.shape), want, rtol=1e-4, atol=1e-5)
    tone = band_levels(style[None])
    assert np.allclose(made("tone"), tone, atol=1e-3)
    heard = restyled(model.network(), content[None], want, 1.0, tone=tone)[0]
    untoned = restyled(model.network(), content[None], want, 1.0)[0]
    assert abs(heard - untoned).max() > 1e-3
    assert abs(heard).max() > 0.05 and abs(made("transfer") - heard).max() <= 1e-4
    played = Step(step, want, EVERYWHERE, Running(warm_up=0.1))
    blocks = np.concatenate([played(block) for block in content.reshape(-1, 256)])
    assert abs(made("step") - blocks).max() <= 1e-4
    running = RunningTone(tone, model.tone)
    blocks = np.concatenate([running(block) for block in content.reshape(-1, 256)])
    assert abs(made("toned") - blocks).max() <= 1e-4 < abs(blocks - content).max()
