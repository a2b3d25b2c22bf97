"""What a reader opens, in a real Chromium, headless: notebooks in JupyterLab as `make lab` starts it, and the
gallery. Every player plays, every picture is seen.
"""

import base64
import csv
import io
import json
import re
import shutil
import socket
from pathlib import Path

import nbformat
import pytest
import soundfile as sf
from browser import PORT, browsing, free_port, patiently, running
from conftest import ROOT

from mambamuse.judge import listening
from mambamuse.judge.pairs import shipped_pairs
from mambamuse.reproduce.steps import Step, execute
from mambamuse.sound.loudness import Loudness

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
    """What `make lab` needs of the repository, to be opened, and so saved, by JupyterLab; with an environment
    of its own for what is trusted and configured.
    """
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
    """A notebook as `mambamuse reproduce` executes and keeps those of a run; it plays a second and a half,
    and draws a picture.
    """
    lines = (
        "from IPython.display import Audio, display",
        "import matplotlib.pyplot as plt",
        "import numpy as np",
        "display(Audio(np.sin(np.arange(24_000)), rate=16_000))",
        "plt.plot([1, 2]);",
    )
    cells = [
        nbformat.v4.new_code_cell("seed: int = 1  # of nothing", metadata=dict(tags=["parameters"])),
        nbformat.v4.new_code_cell("\n".join(lines)),
    ]
    kernel = dict(name="python3", display_name="python3", language="python")
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=kernel)), checkout / "heard.ipynb"
    )
    execute(Step("heard", dict(seed=2)), checkout / "heard.ipynb", checkout / "runs" / "mine")
    return checkout / "runs" / "mine" / "notebooks" / "heard.ipynb"


@pytest.fixture(scope="module")
def lab(checkout, tmp_path_factory):
    "A page in which `make lab` shows what it opens."
    port, logs = free_port(), tmp_path_factory.mktemp("lab")
    settings = dict(
        ServerApp=dict(ip="127.0.0.1", port=port, open_browser=False, allow_root=True),
        IdentityProvider=dict(token="a-token-for-a-test"),
        LabApp=dict(
            expose_app_in_browser=True,
            **{f"{name}_dir": str(logs / name) for name in ("workspaces", "user_settings")},
        ),
    )
    config = checkout / "jupyter" / "config" / "jupyter_server_config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps(settings))
    whole = logs / "user_settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    whole.parent.mkdir(parents=True)
    whole.write_text('{"windowingMode": "none"}')  # cells that are out of sight are in the page, too
    with (
        running(["make", "-o", ".venv/installed", "lab"], logs / "server.log", checkout),
        browsing(logs) as page,
    ):
        patiently(lambda: socket.create_connection(("127.0.0.1", port)))
        page.open(f"http://{PORT(port)}/?token=a-token-for-a-test")
        page.until(
            f"window.jupyterapp && jupyterapp.restored.then(() => {PANEL}?.context?.ready).then(() =>"
            f" {PANEL}?.context?.path)"
        )
        yield page


def opened(page, path, pictures):
    """Open a notebook by its path from the root; once so many pictures are drawn, the seconds of its players
    and the widths of its pictures.
    """
    page.js(
        f"jupyterapp.commands.execute('docmanager:open', {{ path: {json.dumps(path)} }}).then(() =>"
        f" {PANEL}.revealed).then(() => 1)"
    )
    assert page.js(f"{PANEL}.context.path") == path
    page.until(f"{PANEL}.node.querySelectorAll('img').length >= {pictures}")
    return page.durations(f"{PANEL}.node"), page.widths(f"{PANEL}.node")


def test_make_lab_opens_the_index(lab):
    assert lab.js(f"{PANEL}.context.path") == "nbs/index.ipynb"


@pytest.mark.parametrize("name", ("index", "judge/baselines", "judge/shipped"))
def test_players_play_and_pictures_are_seen_in_jupyterlab(lab, checkout, name):
    players, pictures = audible_and_visible(checkout / "nbs" / f"{name}.ipynb")
    seconds, widths = opened(lab, f"nbs/{name}.ipynb", pictures)
    assert len(seconds) == players and all(x > 0 for x in seconds)
    assert len(widths) == pictures > 0 and all(x > 0 for x in widths)
    assert players > 2 or name == "index"


def test_players_play_in_the_executed_notebook_of_a_run(executed, lab, checkout):
    seconds, widths = opened(lab, str(executed.relative_to(checkout)), 1)
    assert seconds == [1.5]
    assert len(widths) == 1 and widths[0] > 100


def test_a_notebook_that_nobody_trusts_is_silent(lab, checkout):
    "What the two tests above would say without the trust step."
    stranger = json.loads((checkout / "nbs" / "judge/baselines.ipynb").read_text())
    stranger["cells"].pop()
    (checkout / "stranger.ipynb").write_text(json.dumps(stranger))
    seconds, _ = opened(lab, "stranger.ipynb", 3)
    assert not any(seconds)


GALLERY = ROOT / "figures" / "gallery.html"
FIRST = 12  # pairs of each set
SYSTEMS = 9
TAKES = "[...document.querySelectorAll('.set .take')]"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    "The gallery, opened from the disk."
    with browsing(tmp_path_factory.mktemp("gallery")) as page:
        page.open(GALLERY.as_uri())
        page.until("document.readyState === 'complete' && document.querySelectorAll('.set').length === 2")
        yield page
        assert not page.wrong()


def test_every_player_of_the_gallery_plays_and_every_picture_is_seen(gallery):
    sets = [f"document.querySelectorAll('.set')[{number}]" for number in (0, 1)]
    seconds = [x for each in sets for x in gallery.durations(each)]
    widths = gallery.widths()
    assert len(seconds) == len(widths) == 2 * FIRST * SYSTEMS
    assert min(seconds) > 1 and min(widths) > 0


def test_the_gallery_is_what_its_notebook_makes():
    page = GALLERY.read_text()
    assert listening.front("gallery.css") in page and listening.front("gallery.js") in page


def test_the_gallery_names_instruments_and_systems(gallery):
    pairs = [row for kind in ("phrases", "notes") for row in shipped_pairs(kind).head(FIRST).itertuples()]
    named = gallery.js("[...document.querySelectorAll('.pair .name b')].map(name => name.innerText)")
    assert named == [f"{row.content_instrument}, played as {row.style_instrument}" for row in pairs]
    heads = gallery.js(
        "[...document.querySelectorAll('.pair')[0].querySelectorAll('.who')].map(e => e.innerText)"
    )
    explained = gallery.js("[...document.querySelectorAll('dt')].map(head => head.innerText)")
    assert heads == explained and len(heads) == SYSTEMS
    assert gallery.js(
        "[...document.querySelectorAll('.bar button, input, select')].every(one => one.ariaLabel)"
    )
    scores = gallery.js("[...document.querySelectorAll('.scores')].map(text => text.innerText)")
    assert all(
        re.fullmatch(r"timbre\s+[01]\.\d\d\s+pitch\s+[01]\.\d\d\s+LSD\s+\d+\.\d\d", text) for text in scores
    )
    assert scores[2].split()[-1] == "0.00" != scores[0].split()[-1]  # the target is compared with itself


@pytest.mark.parametrize("width", (1_920, 1_260, 390))
def test_the_gallery_fits_a_screen_and_a_phone(gallery, width):
    gallery.size(width, 800)
    gallery.until(f"innerWidth === {width}")
    assert gallery.js("document.documentElement.scrollWidth") <= width
    gallery.size(1_260, 880)


def test_a_click_plays_and_another_player_stops_it_and_the_bar_moves_the_sound(gallery):
    one, other = f"{TAKES}[0]", f"{TAKES}[3]"
    gallery.click(f"{one}.querySelector('button')")
    gallery.until(f"!{one}.querySelector('audio').paused")
    gallery.click(f"{other}.querySelector('button')")
    gallery.until(f"!{other}.querySelector('audio').paused && {one}.querySelector('audio').paused")
    gallery.click(f"{other}.querySelector('button')")
    gallery.until(f"{other}.querySelector('audio').paused")
    gallery.press(f"{one}.querySelector('input')", "End", 35)
    gallery.until(f"{one}.querySelector('audio').currentTime > .95 * {one}.querySelector('audio').duration")
    gallery.press(f"{one}.querySelector('input')", "Home", 36)
    gallery.until(f"{one}.querySelector('audio').currentTime === 0")


def test_pairs_are_sorted_by_the_score_of_a_system(gallery):
    def order():
        return gallery.js(
            "[...document.querySelectorAll('.set')[0].querySelectorAll('.pair')].map(p => p.dataset.pair)"
        )

    def choose(number, value):
        select = f"document.querySelectorAll('.order select')[{number}]"
        gallery.js(f"{select}.value = {value!r}; {select}.dispatchEvent(new Event('change')); 1")

    drawn = order()
    assert drawn == list(shipped_pairs("phrases").pair.head(FIRST))
    for system in ("paired", "musaicing"):
        choose(0, "lsd")
        choose(1, system)
        scores = {
            pair: float(
                gallery.js(f"document.querySelector('[data-pair={pair}] [data-system={system}]').dataset.lsd")
            )
            for pair in drawn
        }
        assert order() == sorted(drawn, key=scores.get) != drawn
    choose(0, "")
    assert order() == drawn


def test_votes_of_the_blind_test_can_be_downloaded(gallery):
    "A, no difference, B: the file names what was heard, and what was said to be closer."
    gallery.js("URL.createObjectURL = (file) => { window.saved = file.text(); return '#'; }; 1")
    gallery.click("document.querySelector('.start')")
    heard = []
    for choice in ("A", "same", "B"):
        gallery.until("document.querySelector('.blind audio').src.length > 1000")
        found = gallery.js(  # a sound may be in two pairs: the target of one, the content of another
            f"[...document.querySelectorAll('.blind audio')].map(blind => [...{TAKES}].filter(take =>"
            " take.querySelector('audio').src === blind.src).map(take =>"
            " [take.closest('.pair').dataset.pair, take.dataset.system]))"
        )
        (pair,) = set.intersection(*({pair for pair, _ in takes} for takes in found))
        target, *ours = ([system for of, system in takes if of == pair] for takes in found)
        assert target == ["the target"]
        heard.append((pair, ours[0][0], ours[1][0], choice))
        gallery.click(f"document.querySelector('.vote[value={choice}]')")
        assert gallery.js("document.querySelector('.said').innerText").startswith("A was ")
        gallery.click("document.querySelector('.next')")
    gallery.click("document.querySelector('.download')")
    votes = list(csv.DictReader(io.StringIO(gallery.js("window.saved"))))
    assert [(vote["pair"], vote["a"], vote["b"], vote["closer"]) for vote in votes] == heard
    assert all("paired" in (vote["a"], vote["b"]) and vote["a"] != vote["b"] for vote in votes)


def test_the_sounds_of_a_pair_are_equally_loud():
    page = GALLERY.read_text()
    lowest, highest = map(float, re.search(r"from (-\d+\.\d) to (-\d+\.\d) LUFS", page).groups())
    sounds = re.findall(r"data:audio/mpeg;base64,([^\"]+)", page)
    for start in range(0, len(sounds), 5 * SYSTEMS):  # every fifth pair
        levels = []
        for sound in sounds[start : start + SYSTEMS]:
            audio, rate = sf.read(io.BytesIO(base64.b64decode(sound)))
            assert 0 < abs(audio).max() < 1
            meter = Loudness(rate, 1)
            meter.push(audio[None])
            levels.append(meter.value())
        assert max(levels) - min(levels) < 0.3
        assert lowest - 0.3 < min(levels) and max(levels) < highest + 0.3
