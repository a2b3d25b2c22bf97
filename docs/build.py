"""The site, from the notebooks as they are stored: nothing is executed, nothing is fetched.

    python docs/build.py _site

The sources are laid into a folder in the repository's own shape, so that a link between two files is the same
there. What the site adds (parts, API, results, gallery) is written beside them. Sphinx does the rest.
"""

import base64
import hashlib
import mimetypes
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import web
from bs4 import BeautifulSoup
from pages import ROOT, SITE, api_pages, documents, home, notebooks, page_of, part_page, parts
from results import result_files, results
from sphinx.cmd.build import main as sphinx

GALLERY = ROOT / "figures" / "gallery.html"


def sources() -> dict[str, str]:
    "All texts that Sphinx reads, by their path."
    found = {
        "index.md": home([] if web.missing() else [web.PAGE]),
        "results.md": results(),
        "gallery.md": "---\nhide-toc: true\n---\n# Gallery\n\n<!-- gallery -->\n",
    }
    found |= {f"parts/{part}.md": part_page(part, names) for part, names in parts().items()}
    found |= documents() | api_pages()
    if not web.missing():
        found[f"{web.PAGE}.md"] = web.page()
    return found | {f"{name}.ipynb": nbformat.writes(page_of(name)) for name in notebooks()}


def laid_out(folder: Path, found: dict[str, str]) -> None:
    "Write the sources `found` and the result files below `folder`."
    for name, text in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for file in result_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / file)


def unpacked(page: str, folder: Path, up: str) -> str:
    "An HTML page whose sounds and pictures are files in `folder`, named by their hash, and not in the page."

    def file(found: re.Match) -> str:
        data = base64.b64decode(found[2])
        suffix = {"audio/wav": ".wav", "audio/mpeg": ".mp3"}.get(found[1]) or mimetypes.guess_extension(
            found[1]
        )
        name = hashlib.sha256(data).hexdigest()[:16] + suffix
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        return f'"{up}_media/{name}"'

    return re.sub(r'"data:((?:audio|image)/[\w+-]+);base64,([\w+/=\s]+)"', file, page)


PICTURE = re.compile(r'(<a [^>]*image-reference[^>]*>)?(<img [^>]*src="([^"]*_images/[^"]+)"[^>]*>)')


def linked(page: str) -> str:
    "An HTML page whose pictures lead to themselves, as large as they are, for those who look at a phone."
    return PICTURE.sub(
        lambda found: found[0] if found[1] else f'<a class="picture" href="{found[3]}">{found[2]}</a>', page
    )


def first_sounds(gallery: str) -> str:
    "Content, style and what the model makes of them: the first pair of the gallery, for the first page."
    pair = BeautifulSoup(gallery, "html.parser").select_one(".pair")
    rows = []
    for kind in (".of-content", ".of-style", ".ours"):
        take = pair.select_one(kind)
        name = take.select_one(".who").text
        player = f'<audio controls preload="none" aria-label="{name}" src="{take.audio["src"]}"></audio>'
        rows.append(f"<div><b>{name}</b>{player}</div>")
    return f"<p><b>Hear it.</b> {pair.select_one('.name b').text}:</p>" + "".join(rows)


def build(out: Path, found: dict[str, str]) -> int:
    "Build a site of the sources `found` into the folder `out`, which is made anew; Sphinx's exit code."
    with TemporaryDirectory() as folder:
        source, html = Path(folder, "source"), Path(folder, "html")
        laid_out(source, found)
        options = ["-q", "-W", "--keep-going", "-c", Path(__file__).parent, "-d", Path(folder, "doctrees")]
        if code := sphinx(list(map(str, [*options, source, html]))):
            return code
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(html, out, ignore=shutil.ignore_patterns(".buildinfo", "objects.inv"))
    _, gallery, _ = re.split("<!-- /?site -->", GALLERY.read_text(encoding="utf-8"))
    hear = first_sounds(gallery)
    for path in out.rglob("*.html"):
        page = path.read_text(encoding="utf-8").replace("<!-- gallery -->", gallery)
        page = page.replace("<!-- hear -->", hear)
        up = "../" * (len(path.relative_to(out).parts) - 1)
        if f"{web.PAGE}.md" in found:  # this site's own, not that of the published one
            page = page.replace(f'href="{SITE}try/"', f'href="{up}{web.PAGE}.html"')
        path.write_text(unpacked(linked(page), out / "_media", up), encoding="utf-8")
    if f"{web.PAGE}.md" in found:
        web.lay(out)
        web.offline(out)
    return 0


def main(out: Path) -> int:
    "Build the site into the folder `out`; the exit code. Says so if it is without a page."
    if words := web.missing():
        print(words, file=sys.stderr)
    return build(out, sources())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
