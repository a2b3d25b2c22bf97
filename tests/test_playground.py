"""The playground in a real Chromium, headless: JupyterLab or Voila serves the notebook, a mouse and a keyboard turn its knobs."""
import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import ROOT
from mambamuse.audio import SAMPLE_RATE
from mambamuse.generator import MambaMuse
from mambamuse.playground import Playground, examples

PORT = "127.0.0.1:{}".format
FAKES = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"  # a microphone that beeps
QT = """
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication
app, view = QApplication([]), QWebEngineView()
view.page().permissionRequested.connect(lambda asked: asked.grant())
view.setUrl("about:blank"), view.show(), app.exec()
"""


def test_on_the_frame_axis_a_style_is_a_recording_of_any_length():
    torch.manual_seed(0)
    model, sounds = MambaMuse(widths=(4, 8, 16, 32), alphas=(1, 1, 1, 1, .2, .3, 0, 1, 0)).for_inference(), examples()
    sounds["short"] = sounds["Trumpet, note"][:7_777]
    app = Playground(model, sounds)
    content, style = app.content.name.value, app.style.name.value
    assert np.abs(app.transfer() - model.transfer(sounds[content], sounds[style])).max() < 1e-5
    app.style.name.value = "short"
    assert np.abs(app.transfer() - model.transfer(sounds[content], sounds["short"])).max() < 1e-5
    assert app.mix.disabled and "cannot be mixed" in app.children[1].children[2].value and not any(a.disabled for a in app.alphas)


@pytest.mark.parametrize("length", (1, 17, 1_000))
def test_the_shortest_sounds(length):
    app = Playground(MambaMuse(widths=(4, 8, 16, 32), axis="clip", bypass=False).for_inference(), dict(short=examples()["Banjo, note"][5_000:5_000 + length]))
    assert app.transfer().shape == (length,) and np.isfinite(app.transfer()).all() and [a.disabled for a in app.alphas] == [False]*4 + [True] + [False]*4


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def patiently(ask, seconds=120):
    "What `ask()` returns once it is true and raises no `OSError`."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := ask(): return found
        except OSError: pass
        time.sleep(.1)
    raise TimeoutError(f"nothing in {seconds} s")


@contextmanager
def running(command, log, **environment):
    with open(log, "w") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, env={**os.environ, **environment}, cwd=Path(log).parent)
        try: yield
        finally:
            process.terminate()
            process.wait(20)


def browser_command(port, folder):
    "The Chromium on the path, or the one inside Qt, which pip installs; and its environment."
    if chromium := next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None):
        return [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", f"--remote-debugging-port={port}", *FAKES, "about:blank"], {}
    if subprocess.run([sys.executable, "-c", QT.split("app,")[0]], capture_output=True).returncode: pytest.skip("no Chromium on the path, and Qt's (pip install PySide6-WebEngine) does not start")
    return [sys.executable, "-c", QT], dict(QT_QPA_PLATFORM="offscreen", QTWEBENGINE_DISABLE_SANDBOX="1", QTWEBENGINE_REMOTE_DEBUGGING=PORT(port), QTWEBENGINE_CHROMIUM_FLAGS=" ".join(FAKES))


class Page:
    "A page of a Chromium, over its DevTools protocol."
    def __init__(self, port):
        from websocket import create_connection
        targets = patiently(lambda: [t for t in json.load(urlopen(f"http://{PORT(port)}/json")) if t["type"] == "page"])
        self.socket, self.sent, self.events = create_connection(targets[0]["webSocketDebuggerUrl"], suppress_origin=True, timeout=120), 0, []
        for domain in ("Page", "Runtime", "Log", "DOM"): self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.sent += 1
        self.socket.send(json.dumps(dict(id=self.sent, method=method, params=params)))
        while (said := json.loads(self.socket.recv())).get("id") != self.sent: self.events.append(said)
        assert "error" not in said, said
        return said["result"]

    def js(self, expression):
        said = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def until(self, expression): return patiently(lambda: self.js(expression))

    def click(self, element):
        x, y = self.js(f"""(e => {{
            e.scrollIntoView({{ block: 'nearest' }}); const r = e.getBoundingClientRect(); return [r.x + r.width/2, r.y + r.height/2]; }})({element})""")
        for kind in ("mousePressed", "mouseReleased"): self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, element, key, code):
        self.js(f"{element}.focus()")
        for kind in ("keyDown", "keyUp"): self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def upload(self, button, file):
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        before = len(self.events)
        self.click(button)
        opened = lambda: self.js("1") and [e for e in self.events[before:] if e["method"] == "Page.fileChooserOpened"]
        self.call("DOM.setFileInputFiles", files=[str(file)], backendNodeId=patiently(opened)[-1]["params"]["backendNodeId"])

    def wrong(self):
        "JavaScript's exceptions and errors; a style sheet that Voila would like from elsewhere is none."
        return [e for e in self.events if e["method"] == "Runtime.exceptionThrown" or e["method"] == "Runtime.consoleAPICalled" and e["params"]["type"] == "error"]


def panel(number): return f"[...document.querySelectorAll('audio')][{number}].closest('.widget-vbox')"


def media(page, number):
    "The two pictures and the sound of a panel, as the browser has them, in base64."
    return page.js(f"""Promise.all([...{panel(number)}.querySelectorAll('img, audio')].map(e => fetch(e.src).then(r => r.arrayBuffer())
        .then(b => btoa(Array.from(new Uint8Array(b), c => String.fromCharCode(c)).join('')))))""")


def words(number): return f"{panel(number)}.innerText"


@contextmanager
def answered(page):
    "Whatever is done inside, the output becomes another, in pictures and sound, and says how long it took."
    before, source = media(page, 3), f"{panel(3)}.querySelector('audio').src"
    old = page.js(source)
    yield
    page.until(f"{source} != {json.dumps(old)} && {words(3)}.match(/answered in [0-9.]+ s/)")
    assert all(new != old for new, old in zip(media(page, 3), before, strict=True))


@contextmanager
def shown(folder, command, path, run="1"):
    "A page of a new browser with the app, at `path` of the server that `command` starts; there, `run` is a JavaScript promise."
    server, debugger = free_port(), free_port()
    browser, environment = browser_command(debugger, folder / "profile")
    with running([sys.executable, "-m", *command, "--no-browser", f"--port={server}"], folder / "server.log"), running(browser, folder / "browser.log", **environment):
        page = Page(debugger)
        page.call("Emulation.setDeviceMetricsOverride", width=1_260, height=830, deviceScaleFactor=1, mobile=False)
        patiently(lambda: socket.create_connection(("127.0.0.1", server)))
        page.call("Page.navigate", url=f"http://{PORT(server)}{path}")
        page.until(f"document.querySelector('.jp-Cell') && {run}")
        page.until(f"document.querySelectorAll('audio').length == 4 && {words(3)}.includes('answered')")
        yield page
        assert not page.wrong()


def test_in_jupyterlab(tmp_path):
    "All cells are run, and alpha is turned."
    command = ("jupyter", "lab", "--ip=127.0.0.1", "--allow-root", "--ServerApp.token=", "--expose-app-in-browser", f"--notebook-dir={tmp_path}",
               f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}", f"--LabApp.user_settings_dir={tmp_path / 'settings'}")
    shutil.copy(ROOT / "nbs" / "playground.ipynb", tmp_path)  # JupyterLab saves what it opens
    ready = "[...jupyterapp.shell.widgets('main')].some(w => w.sessionContext?.isReady) && jupyterapp.commands.execute('notebook:run-all-cells').then(() => 1)"
    with shown(tmp_path, command, "/lab/tree/playground.ipynb", f"window.jupyterapp && {ready}") as page, answered(page):
        page.press("document.querySelectorAll('.noUi-handle')[0]", "PageDown", 34)


def test_turning_knobs_uploading_and_recording_under_voila(tmp_path):
    "PLAYGROUND_PNG=figures/playground.png keeps a screenshot."
    with shown(tmp_path, ("voila", ROOT / "nbs" / "playground.ipynb", "--Voila.ip=127.0.0.1"), "/") as page:
        with answered(page): page.press("document.querySelectorAll('.noUi-handle')[0]", "PageDown", 34)              # alpha
        with answered(page): page.click("document.querySelectorAll('.noUi-target')[1]")                              # half way from style 1 to style 2
        with answered(page): page.press("document.querySelectorAll('.noUi-vertical .noUi-handle')[3]", "Home", 36)   # alpha of the skip that is heard most
        before = media(page, 1)
        with answered(page): page.press(f"{panel(1)}.querySelector('select')", "End", 35)                            # another style
        assert media(page, 1) != before
        if target := os.environ.get("PLAYGROUND_PNG"): (ROOT / target).write_bytes(base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"]))

        kept = media(page, 3), media(page, 0)
        (tmp_path / "score.wav").write_text("C D E")
        button, record = (f"[...{panel(0)}.querySelectorAll('button')].find(b => /{text}/.test(b.textContent))" for text in ("file", "record|stop"))
        page.upload(button, tmp_path / "score.wav")
        page.until(f"{words(0)}.includes('score.wav: not audio that this browser can read')")
        assert kept == (media(page, 3), media(page, 0))
        sf.write(tmp_path / "long.wav", .1*np.random.default_rng(0).standard_normal((65*44_100, 2)), 44_100)  # 11 MB: more than Jupyter takes in a message
        with answered(page): page.upload(button, tmp_path / "long.wav")
        page.until(f"{panel(0)}.querySelector('select').selectedOptions[0].text.startsWith('long.wav')")
        assert len(sf.read(io.BytesIO(base64.b64decode(media(page, 0)[2])))[0]) == 10*SAMPLE_RATE

        page.click(record)
        page.until(f"{record}.textContent.includes('stop')")
        time.sleep(1.5)  # of beeps
        with answered(page): page.click(record)
        page.until(f"{panel(0)}.querySelector('select').selectedOptions[0].text.startsWith('recording')")
        assert len(sf.read(io.BytesIO(base64.b64decode(media(page, 0)[2])))[0]) > SAMPLE_RATE
