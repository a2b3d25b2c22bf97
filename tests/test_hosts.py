"""The examples of hosts give the stream's samples, from the folder that the package carries."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from test_export import clip, noise

from mambamuse.errors import InputError
from mambamuse.judge.pairs import mono, shipped_pairs
from mambamuse.model.places import PLACES
from mambamuse.model.weights import load_model
from mambamuse.use.compiled import CompiledNetwork
from mambamuse.use.export import channels, export_folder
from mambamuse.use.levels import level, levelled
from mambamuse.use.portable import export_c
from mambamuse.use.stages import measured_style
from mambamuse.use.step import CARRIED, Carried
from mambamuse.use.streaming import Stream, network_for

ZIG = [sys.executable, "-m", "ziglang", "cc"]
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


def player(network, folder: Path, block: int, compiler=ZIG) -> Path:
    "The example in C, compiled for the `network`."
    export_c(network, folder / "step", block)
    words = [*compiler, "-O3", "-march=native", "-Wall", "-Wextra", "-Werror", "-I", folder / "step"]
    words += ["-o", folder / "play", EXAMPLES / "c" / "play.c", folder / "step" / "network.c", "-lm"]
    subprocess.run(list(map(str, words)), check=True)
    return folder / "play"


def in_c(player: Path, *files) -> subprocess.CompletedProcess:
    words = [player, player.parent / "step" / "constants.f32", *files]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True)


@pytest.mark.parametrize("compiler", (ZIG, ["cc"]), ids=("zig", "cc"))
def test_a_program_in_c_plays_what_the_stream_plays(sounds, compiler, tmp_path):
    if not shutil.which(compiler[0]):
        pytest.skip(f"there is no {compiler[0]}")
    folder, want = sounds
    play = player(CompiledNetwork.carried(), tmp_path, 256, compiler)
    style = np.fromfile(folder / "style.f32", "<f4")
    measured_style(Carried(), style).tofile(tmp_path / "style.f32")
    done = in_c(play, folder / "content.f32", tmp_path / "style.f32", tmp_path / "out.f32")
    assert done.returncode == 0, done.stderr
    got = np.fromfile(tmp_path / "out.f32", "<f4")
    assert got.shape == want.shape and abs(got - want).max() <= 1e-5


@pytest.mark.parametrize("sets, alpha", ((1, 0.7), (4, 0.0)))
def test_a_program_in_c_plays_other_networks(sets, alpha, tmp_path):
    "Of other widths; with one set of statistics; without AdaIN. Its blocks are short."
    model, rng = clip(sets=sets, alphas=(alpha,) * len(PLACES)), np.random.default_rng(0)
    content = noise(rng, 1, 1_003)[0].astype(np.float32)
    statistics = measured_style(model.network(), noise(rng, 1, 3_000)[0].astype(np.float32))
    content.tofile(tmp_path / "c.f32")
    statistics.tofile(tmp_path / "s.f32")
    play = player(network_for(model), tmp_path, 48)
    done = in_c(play, tmp_path / "c.f32", tmp_path / "s.f32", tmp_path / "y.f32")
    assert done.returncode == 0, done.stderr
    places = np.split(statistics, np.cumsum(channels(model))[:-1], axis=1)
    stream = Stream(model, [np.split(rows, 2) for rows in places])
    want = np.concatenate([stream.push(content), stream.flush()])
    assert abs(np.fromfile(tmp_path / "y.f32", "<f4") - want).max() <= 1e-5


def test_a_program_in_c_refuses_what_is_not_its_own(tmp_path):
    play = player(network_for(clip()), tmp_path, 64)
    np.ones(100, np.float32).tofile(tmp_path / "other.f32")
    np.full(100, np.nan, np.float32).tofile(tmp_path / "nan.f32")
    (tmp_path / "odd.f32").write_bytes(bytes(402))
    size = 2 * sum(channels(clip()))
    np.full(size, np.nan, np.float32).tofile(tmp_path / "style.f32")
    for content, style, says in (
        ("odd.f32", "style.f32", "odd.f32: not raw float32"),
        (".", "style.f32", ": not raw float32"),
        ("other.f32", "style.f32", "style.f32: there are numbers in it that are none"),
        ("nan.f32", "other.f32", "nan.f32: not raw float32"),
        ("other.f32", "other.f32", "other.f32: not of this network"),
        ("none.f32", "other.f32", "none.f32: no such file"),
    ):
        done = in_c(play, *(tmp_path / name for name in (content, style, "out.f32")))
        assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1
        assert not (tmp_path / "out.f32").exists()


def test_what_cannot_be_written_in_c_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs weights, and the axis clip"):
        export_c(Carried(), tmp_path / "step")
    assert not (tmp_path / "step").exists()


def test_it_refuses_arithmetic_that_would_change_the_sound(tmp_path):
    export_c(network_for(clip()), tmp_path / "step")
    words = [*ZIG, "-c", "-ffast-math", "-o", tmp_path / "n.o", tmp_path / "step" / "network.c"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode and "not with -ffast-math" in done.stderr


def test_a_program_in_cpp_links(tmp_path):
    export_c(network_for(clip()), tmp_path / "step")
    host = """#include "step.h"
    static float m[MEMORY];
    static double d[SUMS];
    int main() {
        execute(PROGRAM, sizeof PROGRAM / sizeof *PROGRAM, m, d, 0, BLOCK, ALPHAS, 1, FALLS);
        return PLACES[0].place;
    }"""
    (tmp_path / "host.cpp").write_text(host)
    build = (
        [*ZIG, "-O1", "-c", "-o", tmp_path / "n.o", tmp_path / "step" / "network.c"],
        [
            *ZIG[:-1],
            "c++",
            "-I",
            tmp_path / "step",
            "-o",
            tmp_path / "h",
            tmp_path / "host.cpp",
            tmp_path / "n.o",
        ],
    )
    for words in build:
        subprocess.run(list(map(str, words)), check=True)
    assert subprocess.run([tmp_path / "h"]).returncode == 0


def test_the_lines_at_the_head_of_the_program_in_c_work(sounds, tmp_path):
    "As they stand there, in a folder with the two recordings that they name."
    if not shutil.which("cc"):
        pytest.skip("there is no cc")
    source = (EXAMPLES / "c" / "play.c").read_text().partition("#include")[0]
    lines = [line[7:] for line in source.splitlines() if line.startswith("//     ")]
    pair = shipped_pairs("phrases").iloc[0]
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("node_modules"))
    for name, path in (("voice.wav", pair.content), ("trumpet.wav", pair["style"])):
        sf.write(tmp_path / name, *sf.read(path))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in lines:
        subprocess.run(line, shell=True, cwd=tmp_path, check=True, env=os.environ | dict(PATH=path))
    made = np.fromfile(tmp_path / "out.f32", "<f4")
    assert len(lines) == 6 and len(made) == sf.info(pair.content).frames and abs(made).max() > 0.05
