"""The site: built from what is stored, then crawled, as files and in a real Chromium."""

import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import house
import pytest
from browser import browsing
from bs4 import BeautifulSoup
from conftest import ROOT
from test_project import NOTEBOOKS

sys.path.insert(0, str(ROOT / "docs"))
import pages

PHONE = 390  # CSS pixels
LOADED = (("img", "src"), ("script", "src"), ("audio", "src"), ("source", "src"), ("link", "href"))  # at once


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The folder of the site, as `make site` builds it: a warning is an error."
    out = tmp_path_factory.mktemp("site") / "_site"
    done = subprocess.run([sys.executable, ROOT / "docs" / "build.py", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def parsed(folder):
    "Each page below a folder, by its path."
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in sorted(folder.rglob("*.html"))}


@pytest.fixture(scope="module")
def read(site):
    return parsed(site)


# As files


def links(read):
    "What pages link to and load on their own site, as the page and the target."
    for path, page in read.items():
        for kind, name in (*LOADED, ("a", "href")):
            for tag in page.find_all(kind, **{name: True}):
                if tag[name] not in ("", "#") and not urlsplit(tag[name]).scheme:
                    yield path, tag[name]


def lost_links(read):
    "Those whose file or anchor is not there."
    ids = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in read.items()}
    for path, target in links(read):
        parts = urlsplit(target)
        goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not goal.is_file() or parts.fragment and goal in ids and parts.fragment not in ids[goal]:
            yield path.name, target


def loaded_from_elsewhere(read, styles=()):
    "Addresses on other hosts that a page, or a style sheet, would ask by itself."
    for path, page in read.items():
        for kind, name in LOADED:
            for tag in page.find_all(kind, **{name: True}):
                if re.match("(https?:)?//", tag[name]) and "canonical" not in tag.get("rel", ()):
                    yield path.name, tag[name]
    for path in styles:
        for address in re.findall(r"(?:url\(|@import)\s*\W?((?:https?:)?//[^)]*)", path.read_text()):
            yield path.name, address


def without_words(read):
    "Pictures without an alternative text."
    for path, page in read.items():
        yield from ((path.name, tag["src"]) for tag in page.find_all("img") if not tag.get("alt", "").strip())


def test_the_crawl_sees_faults(tmp_path):
    (tmp_path / "a.html").write_text(
        '<img src="//there/a.png"><img src="b.png" alt=" "><a href="b.html#here">b</a><a href="c.html">c</a>'
        '<a href="#top">top</a><a href="b.html#there">b</a><script src="https://there/a.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="here">Here. <img src="b.png" alt="b"></p>')
    (tmp_path / "b.png").touch()
    (tmp_path / "a.css").write_text("@import 'https://there/b.css'; p { background: url(b.png) }")
    read = parsed(tmp_path)
    assert sorted(target for _, target in lost_links(read)) == [
        "#top",
        "//there/a.png",
        "b.html#there",
        "c.html",
    ]
    elsewhere = [address for _, address in loaded_from_elsewhere(read, [tmp_path / "a.css"])]
    assert elsewhere[:2] == ["//there/a.png", "https://there/a.js"] and elsewhere[2].startswith(
        "https://there/b"
    )
    assert [source for _, source in without_words(read)] == ["//there/a.png", "b.png"]


def test_every_notebook_has_a_page_and_every_module_one_of_the_api(site, read):
    names = {str(path.relative_to(ROOT).with_suffix(".html")) for path in NOTEBOOKS} - {"nbs/index.html"}
    assert {name for name in names if not (site / name).is_file()} == set()
    modules = {f"api/{module}.html" for module in pages.exporting()}
    assert len(modules) > 70 and {name for name in modules if not (site / name).is_file()} == set()
    assert all((site / f"{name}.html").is_file() for name in ("index", "results", "gallery", "CHANGELOG"))


def test_every_link_and_anchor_leads_somewhere(read):
    assert not list(lost_links(read))
    assert len(list(links(read))) > 10_000


def test_links_into_the_repository_name_a_file_and_a_line_of_it(read):
    targets = {tag["href"] for page in read.values() for tag in page.find_all("a", href=True)}
    inside = [target.removeprefix(pages.CODE) for target in targets if target.startswith(pages.CODE)]
    lost = []
    for target in inside:
        name, _, line = target.partition("#L")
        path = ROOT / name
        if not path.exists() or line and int(line) > len(path.read_text().splitlines()):
            lost.append(target)
    assert not lost
    assert sum("#L" in target for target in inside) > 300  # public functions and classes


def test_a_page_loads_nothing_from_elsewhere(site, read):
    assert not list(loaded_from_elsewhere(read, site.rglob("*.css")))


def test_every_picture_has_an_alternative_text(read):
    assert not list(without_words(read))


def test_every_table_is_one(read):
    "And no raw line of Markdown."
    raw = [
        path.name
        for path, page in read.items()
        for text in page.select("article p")
        if text.text.startswith("| ")
    ]
    assert not raw and sum(len(page.select("article table")) for page in read.values()) > 100


def test_every_page_has_a_title_picture_for_sharing(site, read):
    for path, page in read.items():
        if path.name in ("search.html", "genindex.html", "py-modindex.html"):
            continue
        picture = page.find("meta", property="og:image")["content"]
        home = f"{pages.SETTINGS['doc_host']}{pages.SETTINGS['doc_baseurl']}/"
        assert picture.startswith(home) and (site / picture.removeprefix(home)).is_file(), path


def test_previous_and_next_are_those_of_the_house(site, read):
    for name in (*house.trunk(), *house.branches()):
        path = site / "nbs" / f"{name}.html"
        expected = ["nbs/" * (goal != "index") + goal for goal in house.neighbours(name)[:2] if goal]
        related = read[path].select(".related-pages a")
        goals = [
            (path.parent / tag["href"]).resolve().relative_to(site.resolve()).with_suffix("")
            for tag in related
        ]
        assert sorted(map(str, goals)) == sorted(expected), name


def test_each_stored_player_and_picture_is_on_its_page(site, read):
    from test_pages import audible_and_visible

    for notebook in NOTEBOOKS:
        path = site / notebook.relative_to(ROOT).with_suffix(".html")
        if path in read:
            players, pictures = audible_and_visible(notebook)
            article = read[path].find("article")
            assert (len(article.find_all("audio")), len(article.find_all("img"))) == (players, pictures), (
                notebook
            )


# In a browser


@pytest.fixture(scope="module")
def address(site):
    "Where the site is served."

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("chromium")) as page:
        page.call("Network.enable")
        yield page


def opened(chromium, url):
    chromium.open(url)
    chromium.until(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")


def test_every_page_fits_a_phone_and_asks_no_other_host(chromium, address, site, read):
    "And every player of every page has a sound."
    chromium.size(PHONE, 844)
    wide, silent, players = [], [], 0
    for path, page in read.items():
        opened(chromium, address + str(path.relative_to(site)))
        if chromium.js("document.documentElement.scrollWidth") > PHONE:
            wide.append(path.name)
        if page.find("audio"):
            seconds = chromium.durations("document.querySelector('article')")
            heard = [tag for tag in page.find_all("audio") if tag.get("src") or tag.find("source")]
            players += len(heard)
            silent += [path.name] * (sum(x > 0 for x in seconds) < len(heard))
    chromium.size(1_260, 880)
    asked = {
        event["params"]["request"]["url"]
        for event in chromium.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith((address, "data:", "blob:", "about:"))} == set()
    assert not silent and players > 200
    assert not wide
    assert not chromium.wrong()


def test_the_search_finds_what_is_explained(chromium, address):
    opened(chromium, f"{address}search.html?q=adain")
    chromium.until("document.querySelectorAll('#search-results li a').length > 5")
    assert "nbs/05_adain.html" in chromium.js(
        "[...document.querySelectorAll('#search-results li a')].map(a => a.href).join()"
    )


def test_dark_and_light(chromium, address):
    opened(chromium, f"{address}index.html")
    grounds = []
    for theme in ("light", "dark"):
        chromium.js(f"document.body.dataset.theme = '{theme}'")
        grounds.append(chromium.js("getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(map(int, re.findall(r"\d+", ground)[:3])) for ground in grounds)
    assert light > 700 and dark < 150
