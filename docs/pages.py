"""The pages of the site: a notebook as the site shows it, and what leads to it."""

import ast
import configparser
import os
import re
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import house

from mambamuse import FACE

HOME = "README.md"  # the first page
HEAR = '<div class="hear"><!-- hear -->\n\n[All pairs, and a blind test](gallery.md){}\n\n</div>'
TRY = " · [try it with a sound of yours]({}.md)"
TEXTS = ("CHANGELOG.md", "CONTRIBUTING.md")
SETTINGS = configparser.ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = SETTINGS["DEFAULT"]
SITE = f"{SETTINGS['doc_host']}{SETTINGS['doc_baseurl']}/"  # where it is published
CODE = f"{SETTINGS['git_url']}/blob/{SETTINGS['branch']}/"  # where a file of the repository can be read


# What there is


def notebooks() -> list[str]:
    "All stored notebooks but the index, which README.md is made of; as `nbs/model/scan`."
    paths = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "nbs").rglob("*.ipynb"))
    hidden = {".ipynb_checkpoints", "_proc"}
    return sorted(str(path) for path in paths if not hidden & set(path.parts) and path.name != "index")


def parts() -> dict[str, list[str]]:
    "The notebooks of each folder of branches, in the order in which the trunk reaches them; then the runs."
    order = list(chain.from_iterable(house.BRANCHES.values()))
    rooms = list(chain.from_iterable(house.FLOORS))
    found = {room: [f"nbs/{name}" for name in order if name.startswith(f"{room}/")] for room in rooms}
    found["runs"] = [name for name in notebooks() if name.startswith("nbs/runs/")]
    return {room: names for room, names in found.items() if names}


def read(name: str) -> NotebookNode:
    return nbformat.read(ROOT / f"{name}.ipynb", 4)


def title(book: NotebookNode) -> str:
    return book.cells[0].source.partition("\n")[0].removeprefix("# ")


def summary(book: NotebookNode) -> str:
    "What a notebook says of itself: its first quotation, or else its first sentence."
    paragraphs = book.cells[0].source.split("\n\n")[1:]
    quoted = [text.removeprefix("> ") for text in paragraphs if text.startswith("> ")]
    words = (quoted or [re.split(r"(?<=\.)\s", text)[0] for text in paragraphs] or [""])[0]
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words)  # without links


# Links and pictures


def relinked(text: str, source: str) -> str:
    """Markdown of the file `source`, with links that lead somewhere on the site: to a page, to a result file,
    which is copied, or else to the repository.
    """
    here = Path(source).parent

    def link(found: re.Match) -> str:
        target, hash_, anchor = found[2].partition("#")
        if not target or re.match("[a-z]+:", target):
            return found[0]
        path = Path(os.path.normpath(here / target))
        if str(path) in ("nbs/index.ipynb", HOME):
            path = Path("index.md")
        elif path.name == "gallery.html":
            path = Path("gallery.md")
        elif path.suffix not in (".ipynb", ".csv", ".png") and str(path) not in TEXTS:
            return f"{found[1]}({CODE}{path}{hash_}{anchor})"
        return f"{found[1]}({os.path.relpath(path, here)}{hash_}{anchor})"

    return re.sub(r"(\]) ?\(([^()\s]+)\)", link, text)


def tree_of(code: str) -> ast.Module:
    "The code of a cell, without IPython's own lines; a picture in a text, ![...], is none."
    return ast.parse(re.sub(r"(?m)^\s*(%|!(?!\[)).*$", "", code))


def only_imports(code: str) -> bool:
    "Whether a cell imports, and perhaps sets a style or a seed, and does nothing else; the site folds it."
    kinds = {type(node) for node in tree_of(code).body}
    return bool(kinds & {ast.Import, ast.ImportFrom}) and kinds <= {ast.Import, ast.ImportFrom, ast.Expr}


def words_of_a_picture(code: str) -> list[str]:
    "The titles and labels that the code of a cell gives to its picture."
    found = []
    for node in ast.walk(tree_of(code)):
        if isinstance(node, ast.Call):
            given = [
                word.value for word in node.keywords if word.arg in ("title", "xlabel", "ylabel", "label")
            ]
            method = getattr(node.func, "attr", "")
            given += node.args[:1] if re.fullmatch("(set_)?(title|suptitle|xlabel|ylabel)", method) else []
            found += [text.value for text in given if isinstance(text, ast.Constant)]
    return [text for text in dict.fromkeys(found) if isinstance(text, str) and text]


def alternative(section: str, code: str) -> str:
    "A text for those who do not see the picture of a cell."
    words = ", ".join(words_of_a_picture(code))
    return re.sub(r"[`*$]", "", f"Figure: {section}" + (f" ({words})" if words else ""))


# Pages from notebooks

DIRECTIVE = re.compile(r"(?m)^#\s?\| .*\n?")  # nbdev's, at the top of a cell


def page_of(name: str) -> NotebookNode:
    "A notebook as the site shows it."
    book, section, cells = read(name), "", []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = relinked(cell.source, f"{name}.ipynb")
            up = os.path.relpath(".", Path(name).parent)
            cell.source = re.sub(r"(\*\*Room\.\*\*) `([\w.]+)`", rf"\1 [`\2`]({up}/api/\2.md)", cell.source)
            heading = re.search(r"(?m)^#+ (.*)$", cell.source)
            section = heading[1] if heading else section
        else:
            exported = re.match(r"#\s?\| export", cell.source)
            cell.source = DIRECTIVE.sub("", cell.source)
            if not cell.source.strip():
                continue
            tags = ["exported"] * bool(exported) + ["hide-input"] * only_imports(cell.source)
            if name.startswith(
                "nbs/pages/"
            ):  # for people who came for what it says, not for how it is written
                tags.append("remove-input")
            cell.metadata.tags = [*cell.metadata.get("tags", ()), *tags]
            for output in cell.outputs:
                if any(kind.startswith("image/") for kind in output.get("data", ())):
                    cell.metadata.mystnb = dict(image=dict(alt=alternative(section, cell.source)))
                if "text/markdown" in output.get("data", ()):
                    output.data["text/markdown"] = relinked(output.data["text/markdown"], f"{name}.ipynb")
        cells.append(cell)
    cells[0].source += f"\n\n[The notebook itself]({CODE}{name}.ipynb)"
    book.cells = cells
    return book


def toctree(caption: str, names) -> str:
    lines = "\n".join(f"/{name}" for name in names)
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def home(first_of_all: Sequence[str] = ()) -> str:
    "README.md, and the way through everything; the pages `first_of_all` are on top of it."
    used = {*(f"nbs/{name}" for name in house.trunk()), *chain.from_iterable(parts().values())}
    others = [name for name in notebooks() if name not in used]
    head, first, rest = relinked((ROOT / HOME).read_text(encoding="utf-8"), HOME).split("\n\n", 2)
    hear = HEAR.format("".join(map(TRY.format, first_of_all)))
    return "\n".join(
        (
            f"{head}\n\n{first}\n\n{hear}\n\n{rest}",
            toctree("Try it", first_of_all) if first_of_all else "",
            toctree("Read along", [f"nbs/{name}" for name in house.trunk()]),
            toctree("Branches", [f"parts/{part}" for part in parts()]),
            toctree(
                "Look up",
                ["results", "gallery", *others, "api/index", *(name.removesuffix(".md") for name in TEXTS)],
            ),
        )
    )


def part_page(part: str, names: list[str]) -> str:
    "One folder of branches: what each of its notebooks says of itself."
    rows = "\n".join(
        f"* [{title(book)}](../{name}.ipynb): {summary(book)}" for name, book in zip(names, map(read, names))
    )
    return f"# {part.capitalize()}\n\n{rows}\n\n{toctree(part, names)}"


def documents() -> dict[str, str]:
    "The other texts of the repository that the site shows."
    return {name: relinked((ROOT / name).read_text(encoding="utf-8"), name) for name in TEXTS}


# API


def exporting() -> dict[str, str]:
    "Which notebook each module is exported from, as `mambamuse.model.scan`: `nbs/model/scan`."
    books = {name: read(name).cells for name in notebooks()}
    return {house.module_of(cells): name for name, cells in books.items() if exports(cells)}


def exports(cells: list) -> bool:
    return any(cell.source.startswith("# | default_exp") for cell in cells)


def api_pages() -> dict[str, str]:
    "A page for each module, and one that lists them."
    pages, rows = {}, []
    for module, name in exporting().items():
        book = read(name)
        pages[f"api/{module}.md"] = (
            f"# {module}\n\nWritten and explained in [{title(book)}](../{name}.ipynb).\n\n"
            f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n   :undoc-members:\n"
            "   :member-order: bysource\n```\n"
        )
        rows.append(f"* [`{module}`]({module}.md): {summary(book)}")
    names = ", ".join(f":py:obj:`~mambamuse.{module}.{name}`" for name, (module, *_) in FACE.items())
    listed = "\n".join(rows)
    pages["api/index.md"] = (
        "# API\n\nEvery public name, from its docstring, with a link to its line in the repository.\n\n"
        f"From `mambamuse` itself come:\n\n```{{eval-rst}}\n{names}.\n```\n\n"
        f"## Modules\n\n{listed}\n\n{toctree('API', [page.removesuffix('.md') for page in pages])}"
    )
    return pages
