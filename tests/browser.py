"""A headless Chromium for the tests, one that is on the path or the one inside Qt, which pip installs; and
the servers it looks at.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

PORT = "127.0.0.1:{}".format
FAKES = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"  # a microphone that beeps
QT = """
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication
app, view = QApplication([]), QWebEngineView()
view.page().permissionRequested.connect(lambda asked: asked.grant())
view.setUrl("about:blank"), view.show(), app.exec()
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def patiently(ask, seconds=120):
    "What `ask()` returns once it is true and raises no `OSError`."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := ask():
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"nothing in {seconds} s")


@contextmanager
def running(command, log, folder=None, **environment):
    "A process, whose output goes to the file `log`; it is ended afterwards, with all that it has started."
    with open(log, "w") as out:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=out,
            stderr=out,
            env={**os.environ, **environment},
            cwd=folder or Path(log).parent,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def browser_command(port, folder, flags=()):
    "The Chromium on the path, or the one inside Qt, which pip installs, with `flags`; and its environment."
    if chromium := next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    ):
        return [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder}",
            f"--remote-debugging-port={port}",
            *FAKES,
            *flags,
            "about:blank",
        ], {}
    if subprocess.run([sys.executable, "-c", QT.split("app,")[0]], capture_output=True).returncode:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no Chromium on the path, and Qt's (pip install PySide6-WebEngine) does not start")
    return [sys.executable, "-c", QT], dict(
        QT_QPA_PLATFORM="offscreen",
        QTWEBENGINE_DISABLE_SANDBOX="1",
        QTWEBENGINE_REMOTE_DEBUGGING=PORT(port),
        QTWEBENGINE_CHROMIUM_FLAGS=" ".join((*FAKES, *flags)),
    )


class Page:
    "A page of a Chromium, over its DevTools protocol."

    def __init__(self, port):
        from websocket import create_connection

        targets = patiently(
            lambda: [t for t in json.load(urlopen(f"http://{PORT(port)}/json")) if t["type"] == "page"]
        )
        self.socket, self.sent, self.events = (
            create_connection(targets[0]["webSocketDebuggerUrl"], suppress_origin=True, timeout=120),
            0,
            [],
        )
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.sent += 1
        self.socket.send(json.dumps(dict(id=self.sent, method=method, params=params)))
        while (said := json.loads(self.socket.recv())).get("id") != self.sent:
            self.events.append(said)
        assert "error" not in said, said
        return said["result"]

    def js(self, expression):
        said = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def until(self, expression):
        return patiently(lambda: self.js(expression))

    def size(self, width, height):
        "In CSS pixels; one of them is one of the screen's."
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, address):
        self.call("Page.navigate", url=address)

    def click(self, element):
        x, y = self.js(
            f"""(e => {{
            e.scrollIntoView({{ block: 'nearest' }}); const r = e.getBoundingClientRect(); return [r.x + r.width/2, r.y + r.height/2]; }})({element})"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, element, key, code):
        self.js(f"{element}.focus()")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def upload(self, button, file):
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        before = len(self.events)
        self.click(button)

        def opened():
            return self.js("1") and [
                e for e in self.events[before:] if e["method"] == "Page.fileChooserOpened"
            ]

        self.call(
            "DOM.setFileInputFiles",
            files=[str(file)],
            backendNodeId=patiently(opened)[-1]["params"]["backendNodeId"],
        )

    def picture(self, path):
        "Keep a screenshot at `path`."
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def durations(self, inside="document"):
        "In seconds, of each player of the element `inside`, once the browser has read it."
        return self.js(
            f"""Promise.all([...{inside}.querySelectorAll('audio')].map(player => new Promise(said => {{
            const tell = () => said(player.duration || 0);
            if (player.duration || !player.src && !player.querySelector('source[src]')) return tell();
            player.addEventListener('loadedmetadata', tell);
            player.addEventListener('error', tell);
            setTimeout(tell, 10000);
            player.preload = 'metadata';
            player.load();
        }})))"""
        )

    def widths(self, inside="document"):
        "Of each picture of the element `inside`, as it is stored; 0 where it cannot be shown."
        return self.js(
            f"Promise.all([...{inside}.querySelectorAll('img')].map(i => i.decode().catch(() => 0).then(() =>"
            " i.naturalWidth)))"
        )

    def wrong(self):
        "JavaScript's exceptions and errors; a style sheet that Voila would like from elsewhere is none."
        return [
            e
            for e in self.events
            if e["method"] == "Runtime.exceptionThrown"
            or e["method"] == "Runtime.consoleAPICalled"
            and e["params"]["type"] == "error"
        ]


@contextmanager
def browsing(folder, *flags):
    "A page of a new browser, started with `flags`, whose profile and log go into `folder`."
    debugger = free_port()
    browser, environment = browser_command(debugger, folder / "profile", flags)
    with running(browser, folder / "browser.log", **environment):
        page = Page(debugger)
        page.size(1_260, 880)
        yield page
