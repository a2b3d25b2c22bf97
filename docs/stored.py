"""What a notebook keeps of its run: what a reader should see, and nothing else.

    python docs/stored.py nbs/05_adain.ipynb nbs/pages

Of the outputs in the notebooks and folders named, it takes out what a program says to whoever waits:
warnings, progress bars, compilations. Pictures of few colours keep these, in a third of the bytes.
"""

import base64
import io
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image

COLOURS = 128  # of a picture; what a plot draws, and the shades of its edges
WIDGET = (
    "application/vnd.jupyter.widget-view+json"  # a progress bar's; nothing is left of it in a stored notebook
)
WAITING = re.compile(r"\d+%\|.*\||\d+ ?/ ?\d+ \[.*(it/s|s/it|\?it)|compiled for this processor")


def said(text: str) -> str:
    "The lines of `text` that are no progress; of a line that was written over, its last state."
    lines = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").splitlines(keepends=True)]
    return "".join(line for line in lines if not WAITING.search(line))


def small(picture: str) -> str:
    "A PNG, in base64, with a palette of `COLOURS`; as it is, if that is no smaller."
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    if image.mode == "P":
        return picture
    file = io.BytesIO()
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A") if "A" in image.mode else None)
    flat.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        file, "PNG", optimize=True
    )
    return min(picture, base64.b64encode(file.getvalue()).decode() + "\n", key=len)


def kept(output: NotebookNode) -> bool:
    "Whether a reader should see `output`; a text loses the lines that nobody should."
    if output.output_type == "stream":
        output.text = said(output.text)
        return output.name != "stderr" and bool(output.text.strip())
    return WIDGET not in output.get("data", {})


def store(path: Path) -> None:
    "Clean the outputs of the notebook `path`, which is written anew if that changes it."
    book = nbformat.read(path, 4)
    before = nbformat.writes(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if kept(output)]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = small(output.data["image/png"])
    if nbformat.writes(book) != before:
        nbformat.write(book, path)


def notebooks(given: list[str]) -> list[Path]:
    "The notebooks named, and those in the folders named."
    found = (sorted(Path(name).rglob("*.ipynb")) if Path(name).is_dir() else [Path(name)] for name in given)
    return [path for paths in found for path in paths if ".ipynb_checkpoints" not in path.parts]


if __name__ == "__main__":
    for notebook in notebooks(sys.argv[1:]):
        store(notebook)
