"""The package as a stranger gets it: built, installed into an empty environment without extras, used from
another folder.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import ROOT
from test_start import MODULES, all_of, at_import

pytestmark = pytest.mark.install

CORE = [module for module in MODULES if at_import(module) <= all_of("core")]
PHRASES = ROOT / "mambamuse" / "test_sets" / "phrases"
CONTENT, STYLE = PHRASES / "phrase-000-content.flac", PHRASES / "phrase-000-style.flac"
LIMIT = 500_000_000  # bytes


def interpreters():
    "Python's versions that can be had here: the one that runs the tests, and others on the path that start."
    yield Path(sys.executable)
    for minor in (11, 12, 13, 14):
        found = shutil.which(f"python3.{minor}")
        if minor != sys.version_info.minor and found:
            if subprocess.run([found, "--version"], capture_output=True).returncode == 0:
                yield Path(found)


def call(*words, cwd, **more):
    "Run `words`, with nothing of this environment's Python in the way; standard output."
    names = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "ORT_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | more
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "The wheel that is built from the sdist that is built from the checkout."
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module", params=interpreters(), ids=lambda path: path.name)
def installed(request, wheel, tmp_path_factory):
    """The `bin` of a fresh environment in which the wheel is installed without extras, with the versions of
    the lock.
    """
    folder = tmp_path_factory.mktemp("fresh")
    versions = folder / "versions.txt"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    versions.write_text("\n".join(line.rstrip(" \\") for line in lines if re.match(r"[\w.-]+==", line)))
    call(request.param, "-m", "venv", folder / "env", cwd=folder)
    call(
        folder / "env" / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        versions,
        wheel,
        cwd=folder,
    )
    return folder / "env" / "bin"


@pytest.fixture(scope="module")
def used(installed, tmp_path_factory):
    """What the installed commands wrote, in a folder of its own, and what those of the checkout wrote, in
    another.
    """
    mine, theirs = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("installed")
    home = tmp_path_factory.mktemp("home")
    for folder, commands in ((mine, Path(sys.executable).parent), (theirs, installed)):

        def run(*words):
            return call(commands / "mambamuse", *words, cwd=folder, HOME=str(home))

        run("transfer", CONTENT, STYLE)
        run("style", STYLE, "-o", "a.style")
        run("transfer", CONTENT, "a.style", "-o", "styled.wav", "--alpha", "0.5")
        (folder / "live.json").write_text(run("live", "a.style", "--content", CONTENT, "-o", "live.wav"))
        (folder / "demo.txt").write_text(run("demo"))
    assert not list(home.iterdir())
    return mine, theirs


def test_the_wheel_carries_recipes_notes_and_weights(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        "mambamuse/arms/as_run.toml",
        "mambamuse/sizes/smoke.toml",
        "mambamuse/mini_nsynth/nsynth-test/examples.json",
        "mambamuse/test_sets/phrases/pairs.csv",
        "mambamuse/timbre_net/timbre.safetensors",
        "mambamuse/weights/model.safetensors",
        *(f"mambamuse/basic_pitch/{name}" for name in ("nmp.onnx", "LICENSE", "NOTICE", "README.md")),
    } <= set(names)
    assert sum(name.endswith(".flac") for name in names) == 159 + 197  # mini-nsynth and the test sets
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]


def test_the_core_is_what_a_musician_needs():
    assert {
        "errors",
        "cli",
        "sound.audio",
        "sound.loudness",
        "learn.config",
        *(f"use.{room}" for room in "demo files folders style live transfer step levels".split()),
    } <= set(CORE)


def test_every_module_of_the_core_imports_without_pytorch(installed, tmp_path):
    script = (
        "import importlib, importlib.util, sys\nassert importlib.util.find_spec('torch') is None and"
        f" importlib.util.find_spec('scipy') is None\nfor name in {CORE!r}:"
        " importlib.import_module('mambamuse' if name == '__init__' else 'mambamuse.' +"
        " name)\nprint(sys.modules['mambamuse'].__file__)"
    )
    assert str(installed.parent) in call(installed / "python", "-c", script, cwd=tmp_path)


def test_the_installed_command_tells_help_and_version(installed, tmp_path):
    assert "transfer" in call(installed / "mambamuse", "--help", cwd=tmp_path)
    assert call(installed / "mambamuse", "--version", cwd=tmp_path) == "mambamuse 0.1.0\n"


@pytest.mark.parametrize(
    "name", ["phrase-000-content-as-phrase-000-style.wav", "styled.wav", "live.wav", "demo/output.wav"]
)
def test_the_installed_commands_sound_as_the_checkout(used, name):
    "The plain package runs in ONNX Runtime, the checkout compiled: at most a step of 16 bits apart."
    name = name.replace("demo/", "mambamuse-demo/")
    (mine, rate), (theirs, same) = (sf.read(folder / name) for folder in used)
    assert rate == same and len(mine) and np.abs(mine).max() > 0.01
    assert np.abs(mine - theirs).max() <= 2**-15 + 1e-6


def test_the_installed_demo_shows_a_page_and_live_a_report(used):
    for folder in used:
        page = Path((folder / "demo.txt").read_text().strip().removeprefix("file://"))
        assert page == folder / "mambamuse-demo" / "index.html" and page.read_text().count("<audio") == 4
        assert json.loads((folder / "live.json").read_text())["blocks"] > 100


def test_what_needs_an_extra_says_so_in_one_line(installed, tmp_path):
    for words, extra in (
        (["train", "--out", "a"], "torch"),
        (["evaluate", "--set", "notes", "--out", "a"], "torch,judge"),
        (["reproduce"], "torch,judge,notebooks"),
        (["live", STYLE], "live"),
    ):
        done = subprocess.run([installed / "mambamuse", *words], capture_output=True, text=True, cwd=tmp_path)
        assert (
            done.returncode == 2
            and done.stderr.count("\n") == 1
            and f"pip install 'mambamuse[{extra}]'" in done.stderr
        )


def test_the_environment_is_small(installed, used):
    size = sum(
        path.stat().st_size
        for path in installed.parent.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    assert size <= LIMIT, size
