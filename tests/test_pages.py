"""What a reader opens, in a real Chromium, headless: notebooks in JupyterLab as `make lab` starts it, and the listening page. Every player plays, every picture is seen."""
import json
import shutil
import socket
from pathlib import Path

import pytest
from browser import PORT, browsing, free_port, patiently, running
from conftest import ROOT

from mambamuse.data import MINI
from mambamuse.generator import MambaMuse
from mambamuse.prepare import prepare
from mambamuse.recipes import recipe
from mambamuse.reproduce import NOTEBOOKS, Step, execute

PANEL = "jupyterapp.shell.currentWidget"


def audible_and_visible(notebook):
    "How many players and pictures the outputs and texts of a notebook hold."
    players, pictures = 0, 0
    for cell in json.loads(Path(notebook).read_text())["cells"]:
        texts = ["".join(cell["source"])] if cell["cell_type"] == "markdown" else []
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            shown = "".join(data.get("text/html", ""))
            players += shown.count("<audio")
            pictures += shown.count("<img") + any(kind.startswith("image/") for kind in data)
            texts.append("".join(data.get("text/markdown", "")))
        pictures += sum(text.count("![") for text in texts)
    return players, pictures


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    "What `make lab` needs of the repository, to be opened, and so saved, by JupyterLab; with an environment of its own for what is trusted and configured."
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for name in ("nbs", "figures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CONFIG", "DATA", "RUNTIME"):
            patch.setenv(f"JUPYTER_{kind}_DIR", str(folder / "jupyter" / kind.lower()))
        yield folder


@pytest.fixture(scope="module")
def executed(checkout):
    "A notebook of a run, executed as `mambamuse reproduce` does it: transfers, heard and drawn."
    run = checkout / "runs" / "tiny"
    prepare(MINI, run / "data", recipe("as_written", "smoke", ["data.train=8", "data.valid=2", "data.test=6"]).data)
    MambaMuse(widths=(4, 8, 16, 32), axis="clip").save_pretrained(run / "train" / "epoch-001")
    told = dict(name="tiny", size="smoke", data=str(run / "data"), run=str(run / "train"), out=str(run / "transfer"), pairs=1)
    execute(Step("transfer", told), NOTEBOOKS / "transfer.ipynb", run)
    return run / "notebooks" / "transfer.ipynb"


@pytest.fixture(scope="module")
def lab(checkout, tmp_path_factory):
    "A page in which `make lab` shows what it opens."
    port, logs = free_port(), tmp_path_factory.mktemp("lab")
    settings = dict(ServerApp=dict(ip="127.0.0.1", port=port, open_browser=False, allow_root=True), IdentityProvider=dict(token="a-token-for-a-test"),
                    LabApp=dict(expose_app_in_browser=True, **{f"{name}_dir": str(logs / name) for name in ("workspaces", "user_settings")}))
    config = checkout / "jupyter" / "config" / "jupyter_server_config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(settings))
    whole = logs / "user_settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    whole.parent.mkdir(parents=True)
    whole.write_text('{"windowingMode": "none"}')  # cells that are out of sight are in the page, too
    with running(["make", "-o", ".venv/installed", "lab"], logs / "server.log", checkout), browsing(logs) as page:
        patiently(lambda: socket.create_connection(("127.0.0.1", port)))
        page.open(f"http://{PORT(port)}/?token=a-token-for-a-test")
        page.until(f"window.jupyterapp && jupyterapp.restored.then(() => {PANEL}?.context?.ready).then(() => {PANEL}?.context?.path)")
        yield page


def opened(page, path):
    "Open a notebook by its path from the root; once it is drawn, the seconds of its players and the widths of its pictures."
    page.js(f"jupyterapp.commands.execute('docmanager:open', {{ path: {json.dumps(path)} }}).then(() => {PANEL}.revealed).then(() => 1)")
    assert page.js(f"{PANEL}.context.path") == path
    cells = f"{PANEL}.content.widgets"
    page.until(f"{cells}.length && {cells}.every(cell => cell.isPlaceholder ? !cell.isPlaceholder() : true)")
    page.until(f"[...{PANEL}.node.querySelectorAll('.jp-MarkdownCell')].every(cell => cell.querySelector('.jp-RenderedMarkdown'))")
    return page.durations(f"{PANEL}.node"), page.widths(f"{PANEL}.node")


def test_make_lab_opens_the_index(lab):
    assert lab.js(f"{PANEL}.context.path") == "nbs/index.ipynb"


@pytest.mark.parametrize("name", ("index", "01_audio", "49_shipped"))
def test_players_play_and_pictures_are_seen_in_jupyterlab(lab, checkout, name):
    players, pictures = audible_and_visible(checkout / "nbs" / f"{name}.ipynb")
    seconds, widths = opened(lab, f"nbs/{name}.ipynb")
    assert len(seconds) == players and all(x > 0 for x in seconds)
    assert len(widths) == pictures > 0 and all(x > 0 for x in widths)
    assert players > 2 or name == "index"


def test_players_play_in_the_executed_notebook_of_a_run(executed, lab, checkout):
    seconds, widths = opened(lab, str(executed.relative_to(checkout)))
    assert len(seconds) == 3 and all(x > 1 for x in seconds)
    assert len(widths) == 1 and widths[0] > 0


def test_a_notebook_that_nobody_trusts_is_silent(lab, checkout):
    "What the two tests above would say without the trust step."
    stranger = json.loads((checkout / "nbs" / "01_audio.ipynb").read_text())
    stranger["cells"].pop()
    (checkout / "stranger.ipynb").write_text(json.dumps(stranger))
    seconds, _ = opened(lab, "stranger.ipynb")
    assert not any(seconds)
