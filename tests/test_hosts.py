"""The examples of hosts give the stream's samples, from the folder that the package carries."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_export import clip, noise

from mambamuse.judge.pairs import mono, shipped_pairs
from mambamuse.model.places import PLACES
from mambamuse.model.weights import load_model
from mambamuse.use.export import export_folder
from mambamuse.use.levels import level, levelled
from mambamuse.use.stages import measured_style
from mambamuse.use.step import CARRIED, Carried
from mambamuse.use.streaming import Stream

EXAMPLES = Path(__file__).parents[1] / "examples"
NODE = EXAMPLES / "node"
HOSTS = {"python": [sys.executable, EXAMPLES / "host.py"], "node": ["node", NODE / "host.mjs"]}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    "A folder with a content and a style as raw float32, and what the stream makes of them."
    folder, pair = tmp_path_factory.mktemp("hosts"), shipped_pairs("phrases").iloc[0]
    content, style = (mono(path)[None, : 16_000 + 7] for path in (pair.content, pair["style"]))
    content, style = (levelled(sound, level(sound))[0] for sound in (content, style))
    content.tofile(folder / "content.f32")
    style.tofile(folder / "style.f32")
    statistics = np.split(
        measured_style(Carried(), style), np.cumsum(list(Carried().places.values()))[:-1], axis=1
    )
    stream = Stream(load_model(), [np.split(rows, 2) for rows in statistics])
    return folder, np.concatenate([stream.push(content), stream.flush()])


def played(host: str, *words) -> subprocess.CompletedProcess:
    "The `host` with its `words`; skips if it is Node's and something of that is missing."
    if host == "node" and not shutil.which("node"):
        pytest.skip("there is no node")
    if host == "node" and not (NODE / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip("its packages are missing: npm ci --ignore-scripts, in examples/node")
    return subprocess.run(list(map(str, [*HOSTS[host], *words])), capture_output=True, text=True)


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_plays_what_the_stream_plays(sounds, host, tmp_path):
    folder, want = sounds
    done = played(host, CARRIED, folder / "content.f32", folder / "style.f32", tmp_path / "out.f32")
    assert done.returncode == 0, done.stderr
    got = np.fromfile(tmp_path / "out.f32", "<f4")
    assert got.shape == want.shape and abs(want).max() > 0.05
    assert abs(got - want).max() <= 1e-5


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_plays_a_network_without_adain(host, tmp_path):
    "Such a step has fewer inputs."
    model, content = clip(), noise(np.random.default_rng(0), 1, 1_000)[0].astype(np.float32)
    model.alphas = (0.0,) * len(PLACES)
    export_folder(model, tmp_path / "out", 64)
    content.tofile(tmp_path / "c.f32")
    done = played(host, tmp_path / "out", tmp_path / "c.f32", tmp_path / "c.f32", tmp_path / "y.f32")
    assert done.returncode == 0, done.stderr
    stream = Stream(model)
    want = np.concatenate([stream.push(content), stream.flush()])
    assert abs(np.fromfile(tmp_path / "y.f32", "<f4") - want).max() <= 1e-5


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_no_raw_sound_is_refused(sounds, host, tmp_path):
    "A WAV file read as raw numbers gives nothing but NaN; of 799 samples no style is measured."
    folder, out = sounds[0], tmp_path / "out.f32"
    np.ones(799, np.float32).tofile(tmp_path / "short.f32")
    wav = shipped_pairs("phrases").iloc[0].content
    for content, style, says in (
        (wav, folder / "style.f32", "not raw float32"),
        (folder / "content.f32", tmp_path / "short.f32", "799 samples, at least 800 are needed"),
        (folder / "none.f32", folder / "style.f32", "none.f32: no such file"),
    ):
        done = played(host, CARRIED, content, style, out)
        assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1
        assert not out.exists()
