"""The examples of hosts give the stream's samples, from the folder that the package carries."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mambamuse.judge.pairs import mono, shipped_pairs
from mambamuse.model.weights import load_model
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


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_plays_what_the_stream_plays(sounds, host, tmp_path):
    if host == "node" and not shutil.which("node"):
        pytest.skip("there is no node")
    if host == "node" and not (NODE / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip("its packages are missing: npm ci --ignore-scripts, in examples/node")
    folder, want = sounds
    command = [*HOSTS[host], CARRIED, folder / "content.f32", folder / "style.f32", tmp_path / "out.f32"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got = np.fromfile(tmp_path / "out.f32", "<f4")
    assert got.shape == want.shape and abs(want).max() > 0.05
    assert abs(got - want).max() <= 1e-5


def test_what_is_no_raw_sound_is_refused(sounds, tmp_path):
    "A WAV file read as raw numbers gives nothing but NaN."
    folder, _ = sounds
    wav = shipped_pairs("phrases").iloc[0].content
    command = [*HOSTS["python"], CARRIED, wav, folder / "style.f32", tmp_path / "out.f32"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 1 and "not raw float32" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out.f32").exists()
