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
import torch
from browser import PORT, browsing, free_port, patiently, running
from conftest import ROOT

from mambamuse.model.generator import MambaMuse
from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.sound.loudness import Loudness
from mambamuse.use.playground import Playground, examples


def loudness(audio):
    "In LUFS, of `audio (time,)` at 16 kHz."
    meter = Loudness(SAMPLE_RATE, 1)
    meter.push(audio[None])
    return meter.value()


def test_on_the_frame_axis_a_style_is_a_recording_of_any_length():
    torch.manual_seed(0)
    model, sounds = (
        MambaMuse(widths=(4, 8, 16, 32), alphas=(1, 1, 1, 1, 0.2, 0.3, 0, 1, 0)).for_inference(),
        examples(),
    )
    sounds["short"] = sounds["Trumpet, note"][:7_777]
    app = Playground(model, sounds)
    content, style = app.content.name.value, app.style.name.value
    assert (
        np.abs(app.transfer() - model.transfer(sounds[content], sounds[style], keep_level=True)).max() < 1e-5
    )
    app.style.name.value = "short"
    assert (
        np.abs(app.transfer() - model.transfer(sounds[content], sounds["short"], keep_level=True)).max()
        < 1e-5
    )
    assert (
        app.mix.disabled
        and "cannot be mixed" in app.children[1].children[2].value
        and not any(a.disabled for a in app.alphas)
    )


@pytest.mark.parametrize("length", (1, 17, 1_000))
def test_the_shortest_sounds(length):
    app = Playground(
        MambaMuse(widths=(4, 8, 16, 32), axis="clip", bypass=False).for_inference(),
        dict(short=examples()["Banjo, note"][5_000 : 5_000 + length]),
    )
    assert (
        app.transfer().shape == (length,)
        and np.isfinite(app.transfer()).all()
        and [a.disabled for a in app.alphas] == [False] * 4 + [True] + [False] * 4
    )


def panel(number):
    return f"[...document.querySelectorAll('audio')][{number}].closest('.widget-vbox')"


def media(page, number):
    "The two pictures and the sound of a panel, as the browser has them, in base64."
    return page.js(
        f"""Promise.all([...{panel(number)}.querySelectorAll('img, audio')].map(e => fetch(e.src).then(r => r.arrayBuffer())
        .then(b => btoa(Array.from(new Uint8Array(b), c => String.fromCharCode(c)).join('')))))"""
    )


def words(number):
    return f"{panel(number)}.innerText"


@contextmanager
def answered(page):
    "Whatever is done inside, the output becomes another, in pictures and sound, and says how long it took."
    before, source = media(page, 3), f"{panel(3)}.querySelector('audio').src"
    old = page.js(source)
    yield
    page.until(f"{source} != {json.dumps(old)} && {words(3)}.match(/answered in [0-9.]+ s/)")
    assert all(new != old for new, old in zip(media(page, 3), before, strict=True))


def sound(page, number):
    "What a panel's player plays, `(time,)`."
    return sf.read(io.BytesIO(base64.b64decode(media(page, number)[2])))[0]


def hears_the_content_as_loud_as_the_output(page):
    "The output's player is switched to the content and back."
    button = (
        f"[...{panel(3)}.querySelectorAll('.widget-toggle-button')].find(b => b.textContent.trim() == '%s')"
    )
    output, address = sound(page, 3), f"{panel(3)}.querySelector('audio').src"
    before = page.js(address)
    page.click(button % "content")
    page.until(f"{address} != {json.dumps(before)}")
    content, switched = sound(page, 3), page.js(address)
    page.click(button % "output")
    page.until(f"{address} != {json.dumps(switched)}")
    assert np.array_equal(sound(page, 3), output)
    original = sound(page, 0)
    assert np.corrcoef(content, original)[0, 1] > 0.999
    assert abs(loudness(content) - loudness(output)) < 0.1
    assert (
        loudness(output) < loudness(original) + 0.1
    )  # and the output as loud as the content that came in, if it does not clip


def everything_has_a_name_and_its_place(page):
    """For those who have the page read to them; the four panels' pictures stand in two rows; and no link
    leads where Voila forbids.
    """
    assert (
        page.js(
            "[...document.querySelectorAll('audio, select, .noUi-handle')].map(e => e.ariaLabel).filter(name"
            " => name).length"
        )
        == 4 + 3 + 2 + 9
    )
    assert (
        page.js("[...document.querySelectorAll('.widget-image')].filter(picture => picture.alt).length") == 8
    )
    tops = page.js(
        "[...document.querySelectorAll('.widget-image')].map(picture => picture.getBoundingClientRect().top)"
    )
    assert len(set(tops)) == 2
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
        page.until(f"document.querySelectorAll('audio').length == 4 && {words(3)}.includes('answered')")
        yield page
        assert min(page.durations()) > 0 and min(page.widths()) > 0
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
        page.press("document.querySelectorAll('.noUi-handle')[0]", "PageDown", 34)


def test_turning_knobs_uploading_and_recording_under_voila(tmp_path):
    "PLAYGROUND_PNG=figures/playground.png keeps a screenshot."
    with shown(tmp_path, ("voila", ROOT / "nbs" / "playground.ipynb", "--Voila.ip=127.0.0.1"), "/") as page:
        with answered(page):
            page.press("document.querySelectorAll('.noUi-handle')[0]", "PageDown", 34)  # alpha
        with answered(page):
            page.click("document.querySelectorAll('.noUi-target')[1]")  # half way from style 1 to style 2
        folded = "document.querySelector('.noUi-vertical').getClientRects().length"
        assert page.js(folded) == 0
        page.click("document.querySelector('.jupyter-widget-Collapse-header')")
        page.until(folded)
        with answered(page):
            page.press(
                "document.querySelectorAll('.noUi-vertical .noUi-handle')[3]", "Home", 36
            )  # alpha of the skip that is heard most
        before = media(page, 1)
        with answered(page):
            page.press(f"{panel(1)}.querySelector('select')", "End", 35)  # another style
        assert media(page, 1) != before
        if target := os.environ.get("PLAYGROUND_PNG"):
            page.picture(ROOT / target)

        hears_the_content_as_loud_as_the_output(page)
        everything_has_a_name_and_its_place(page)

        kept = media(page, 3), media(page, 0)
        (tmp_path / "score.wav").write_text("C D E")
        button, record = (
            f"[...{panel(0)}.querySelectorAll('button')].find(b => /{text}/.test(b.textContent))"
            for text in ("file", "record|stop")
        )
        page.upload(button, tmp_path / "score.wav")
        page.until(f"{words(0)}.includes('score.wav: not audio that this browser can read')")
        assert kept == (media(page, 3), media(page, 0))
        sf.write(
            tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal((65 * 44_100, 2)), 44_100
        )  # 11 MB: more than Jupyter takes in a message
        with answered(page):
            page.upload(button, tmp_path / "long.wav")
        page.until(f"{panel(0)}.querySelector('select').selectedOptions[0].text.startsWith('long.wav')")
        assert len(sound(page, 0)) == 10 * SAMPLE_RATE
        assert "65 s long: its first 10 s are used" in page.js(words(0))

        page.click(record)
        page.until(f"{record}.textContent.includes('stop')")
        time.sleep(1.5)  # of beeps
        with answered(page):
            page.click(record)
        page.until(f"{panel(0)}.querySelector('select').selectedOptions[0].text.startsWith('recording')")
        assert len(sound(page, 0)) > SAMPLE_RATE
