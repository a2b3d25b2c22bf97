"""The playground in a real Chromium, headless: JupyterLab or Voila serves the notebook, a mouse and a
keyboard turn its knobs.
"""

import base64
import io
import json
import os
import shutil
import socket
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile as sf
from browser import PORT, browsing, free_port, patiently, running
from conftest import ROOT

from mambamuse.model.generator import MambaMuse
from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.use.playground import Playground, examples


def test_on_the_frame_axis_a_style_is_a_recording_of_any_length():
    model, sounds = (
        MambaMuse(widths=(4, 8, 16, 32), alphas=(1, 1, 1, 1, 0.2, 0.3, 0, 1, 0), tone=0.5).for_inference(),
        examples(),
    )
    sounds["short"] = sounds["Trumpet, note"][:7_777]
    app = Playground(model, sounds)
    content, *styles = list(sounds)[:2]
    for name in (*styles, "short"):
        made = app.transfer(content, [name, name])
        assert np.abs(made - model.transfer(sounds[content], sounds[name], keep_level=True)).max() < 1e-5
    assert not app.mixes and "cannot be mixed" in app.hint
    assert not any(place["fixed"] for place in app.places)


@pytest.mark.parametrize("length", (1, 17, 1_000))
def test_the_shortest_sounds(length):
    app = Playground(
        MambaMuse(widths=(4, 8, 16, 32), axis="clip", bypass=False).for_inference(),
        dict(short=(note := examples()["Banjo, note"])[5_000 : 5_000 + length], note=note),
    )
    made = app.transfer("short", ["note"] * 2)
    assert made.shape == (length,) and np.isfinite(made).all()
    assert [place["name"] for place in app.places if place["fixed"]] == ["skip32"]


def panel(number):
    return f"document.querySelectorAll('.front-panel')[{number}]"


def line(number):
    return f"{panel(number)}.querySelector('.front-line').textContent"


OFFERED = f"{panel(3)}.querySelector('a')"


@contextmanager
def answered(page):
    "Whatever is done inside, the output becomes another, and says how long it took."
    before = page.js(f"{OFFERED}.href")
    yield
    page.until(f"{OFFERED}.href != {json.dumps(before)} && {line(3)}.match(/answered in [0-9.]+ s/)")


def sound(page):
    "The output that the page offers, `(time,)`."
    data = page.js(
        f"""fetch({OFFERED}.href).then(r => r.arrayBuffer())
        .then(b => btoa(Array.from(new Uint8Array(b), c => String.fromCharCode(c)).join('')))"""
    )
    return sf.read(io.BytesIO(base64.b64decode(data)))[0]


def everything_has_a_name(page):
    "For those who have the page read to them. No link leads where Voila forbids."
    nameless = page.js(
        """[...document.querySelectorAll('.front :is(button, select, input, canvas, progress)')].filter(e =>
        !(e.ariaLabel || e.innerText || e.closest('label')?.innerText || e.hidden)).map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert page.js("document.querySelectorAll('a[href$=\".ipynb\"]').length") == 0


@contextmanager
def shown(folder, command, path, run="1"):
    """A page of a new browser with the app, at `path` of the server that `command` starts; there, `run` is a
    JavaScript promise.
    """
    server = free_port()
    with (
        running([sys.executable, "-m", *command, "--no-browser", f"--port={server}"], folder / "server.log"),
        browsing(folder) as page,
    ):
        patiently(lambda: socket.create_connection(("127.0.0.1", server)))
        page.open(f"http://{PORT(server)}{path}")
        page.until(f"document.querySelector('.jp-Cell') && {run}")
        page.until(f"{panel(3)} && {line(3)}.includes('answered')")
        yield page
        drawn = "[...document.querySelectorAll('.front canvas')].map(c => c.toDataURL().length)"
        assert len(page.js(drawn)) == 4 and min(page.js(drawn)) > 10_000
        assert not page.wrong()


def test_in_jupyterlab(tmp_path):
    "All cells are run, and alpha is turned."
    command = (
        "jupyter",
        "lab",
        "--ip=127.0.0.1",
        "--allow-root",
        "--ServerApp.token=",
        "--expose-app-in-browser",
        f"--notebook-dir={tmp_path}",
        f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}",
        f"--LabApp.user_settings_dir={tmp_path / 'settings'}",
    )
    shutil.copy(ROOT / "nbs" / "playground.ipynb", tmp_path)  # JupyterLab saves what it opens
    ready = (
        "[...jupyterapp.shell.widgets('main')].some(w => w.sessionContext?.isReady) &&"
        " jupyterapp.commands.execute('notebook:run-all-cells').then(() => 1)"
    )
    with (
        shown(tmp_path, command, "/lab/tree/playground.ipynb", f"window.jupyterapp && {ready}") as page,
        answered(page),
    ):
        page.press("document.querySelector('.front-knobs input')", "Home", 36)


def test_turning_knobs_uploading_and_recording_under_voila(tmp_path):
    "PLAYGROUND_PNG=figures/playground.png keeps a screenshot."
    with shown(tmp_path, ("voila", ROOT / "nbs" / "playground.ipynb", "--Voila.ip=127.0.0.1"), "/") as page:
        knobs = "document.querySelectorAll('.front-slider input')"
        for knob in (0, 1):  # alpha; from style 1 to style 2
            with answered(page):
                page.press(f"{knobs}[{knob}]", "PageDown" if knob == 0 else "PageUp", 34 if knob == 0 else 33)
        folded = "document.querySelector('.front-places').checkVisibility()"
        assert not page.js(folded)
        page.click("document.querySelector('.front-advanced summary')")
        page.until(folded)
        with answered(page):
            page.press(f"{knobs}[5]", "Home", 36)  # alpha of a skip
        assert page.js(f"{knobs}[5].value") == "0"
        with answered(page):
            page.press(f"{panel(1)}.querySelector('select')", "End", 35)  # another style
        if target := os.environ.get("PLAYGROUND_PNG"):
            page.picture(ROOT / target)
        everything_has_a_name(page)

        kept = sound(page)
        (tmp_path / "score.wav").write_text("C D E")
        own, record = (f"{panel(0)}.querySelectorAll('button')[{n}]" for n in (0, 1))
        page.upload(own, tmp_path / "score.wav")
        page.until(f"{line(0)}.includes('score.wav: not audio that this browser can read')")
        assert np.array_equal(kept, sound(page))
        sf.write(
            tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal((65 * 44_100, 2)), 44_100
        )  # 11 MB: more than Jupyter takes in a message
        with answered(page):
            page.upload(own, tmp_path / "long.wav")
        assert page.js(f"{panel(0)}.querySelector('select').selectedOptions[0].text") == "long.wav"
        assert len(sound(page)) == 10 * SAMPLE_RATE
        assert page.js(line(0)) == "65 s long: its first 10 s are used"
        assert page.js(f"{OFFERED}.download").startswith("long-as-")

        page.click(record)
        page.until(f"{record}.textContent.includes('stop')")
        time.sleep(1.5)  # of beeps
        with answered(page):
            page.click(record)
        assert page.js(f"{panel(0)}.querySelector('select').selectedOptions[0].text") == "recording"
        assert len(sound(page)) > SAMPLE_RATE
