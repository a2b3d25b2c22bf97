"""The page try/ as pictures: on a desk, in the dark, on a phone.

python tests/pictured.py [FOLDER]       # figures/ if none is named
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import trying
import web
from browser import browsing
from PIL import Image

SHOWN = {  # name: theme, width and height in CSS pixels, what stands at the top
    "try-desktop.png": ("light", 1_260, 900, "h1"),
    "try-dark.png": ("dark", 1_260, 900, "h1"),
    "try-phone.png": ("light", 390, 844, ".front-panel:nth-of-type(4)"),
}
READY = "[...document.querySelectorAll('.front-hear')].filter(b => !b.disabled).length"


def small(path: Path) -> None:
    "A screenshot has few colours: 64 are as good to an eye, and a third of the bytes."
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def main(folder: Path) -> None:
    with TemporaryDirectory() as room:
        site = trying.built(Path(room, "site"))
        with trying.served(site) as address, browsing(Path(room)) as page:
            page.open(f"{address}{web.PAGE}.html")
            page.until(f"{READY} === 3")
            page.click("document.querySelector('.front-start')")
            page.until(f"{READY} === 4")
            for name, (theme, width, height, top) in SHOWN.items():
                page.js(f"document.body.dataset.theme = '{theme}'")
                page.size(width, height)
                page.js(f"document.querySelector({top!r}).scrollIntoView()")
                page.js("new Promise(done => setTimeout(done, 500))")  # what is drawn anew at this width
                page.picture(folder / name)
                small(folder / name)
                print(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "figures"))
