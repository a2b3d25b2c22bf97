"""The house: which module imports which, which notebook follows which. Drawn and written by

    python tests/house.py

into figures/house.png and, as the last paragraph of the first cell and as the last cell, into every notebook
of the trunk and its branches.
"""

import ast
import os
import re
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE, NBS = ROOT / "mambamuse", ROOT / "nbs"
FLOORS = (
    ("errors",),
    ("fields",),
    ("sound", "model"),
    ("data",),
    ("learn",),
    ("use",),
    ("judge",),
    ("reproduce",),
    ("face",),
)  # from the ground
FACE = ("__init__", "cli", "commands")
MAY_LOOK_UP = {
    "model.generator": {"use.transfer", "use.streaming"}
}  # the two methods of MambaMuse that sound and stream, when they are called
BRANCHES = {  # trunk notebook -> those that hang from it, in reading order
    "01_problem": [
        "face/errors",
        "sound/paths",
        "sound/records",
        "sound/audio",
        "sound/filters",
        "sound/loudness",
        "sound/bands",
        "sound/show",
    ],
    "02_note": [
        "face/fields",
        "data/config",
        "data/notes",
        "data/sources",
        "data/soundfonts",
        "data/instruments",
        "data/prepare",
        "data/look",
    ],
    "03_state_space": [
        "model/scan_reference",
        "model/scan",
        "model/scan_kernel",
        "model/scan_numba",
        "model/scan_triton",
    ],
    "04_mamba": ["model/mamba", "model/short_conv"],
    "05_adain": ["model/adain", "model/envelope", "model/places"],
    "06_unet": [
        "model/blocks",
        "model/topology",
        "model/generator",
        "model/config",
        "model/device",
        "model/weights",
        "judge/profiling",
    ],
    "07_losses": ["model/discriminators", "learn/losses", "learn/tone"],
    "08_training": [
        "learn/trainer",
        "learn/config",
        "learn/tasks",
        "learn/optimisers",
        "learn/parts",
        "learn/checkpoints",
        "learn/lines",
        "learn/stop",
        "learn/state",
        "learn/epoch",
        "learn/run",
        "learn/recipes",
        "learn/train",
        "learn/runs",
    ],
    "09_copies": ["judge/study", "judge/ablation"],
    "10_triplets": ["data/triplets", "judge/search"],
    "11_verdict": [
        "use/transfer",
        "use/step",
        "use/levels",
        "use/tone",
        "use/stages",
        "use/style",
        "use/files",
        "use/folders",
        "use/demo",
        "use/streaming",
        "use/instructions",
        "use/program",
        "use/compiled",
        "use/portable",
        "use/export",
        "use/live",
        "use/playground",
        "judge/pairs",
        "judge/intervals",
        "judge/tables",
        "judge/workers",
        "judge/metrics",
        "judge/pitch",
        "judge/timbre",
        "judge/timbre_training",
        "judge/baselines",
        "judge/evaluate",
        "judge/shipped",
        "judge/listening",
    ],
    "12_next": [
        "reproduce/steps",
        "reproduce/origins",
        "reproduce/manifest",
        "reproduce/crate",
        "reproduce/drawing",
        "reproduce/figures",
        "face/options",
        "face/sounds",
        "face/research",
        "face/judging",
        "face/cli",
    ],
}


# Modules


def modules() -> list[str]:
    "All modules, as `sound.audio`; those of the package's own floor, as `cli`."
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(
        ".".join(path.parts)
        for path in paths
        if path.name != "_modidx" and (path.name != "__init__" or len(path.parts) == 1)
    )


def path_of(module: str) -> Path:
    return PACKAGE / (module.replace(".", "/") + ".py")


@cache
def imports(module: str, inside: bool = True) -> tuple[frozenset, frozenset]:
    """The top names that a module imports from elsewhere, and the modules of the package; without `inside`
    functions, or with.
    """
    tree = ast.parse(path_of(module).read_text())
    package, names = module.split(".")[:-1], set()
    for node in ast.walk(tree) if inside else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ["mambamuse", *package[: len(package) + 1 - node.level]] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            inner = {f"{start}.{alias.name}" for alias in node.names}
            names |= {name if name.removeprefix("mambamuse.") in modules() else start for name in inner}
    own = {name.removeprefix("mambamuse.") for name in names if name.startswith("mambamuse.")}
    return frozenset(name.partition(".")[0] for name in names) - {"mambamuse"}, frozenset(own)


def room(module: str) -> str:
    "The package of a module; `errors` is its own, the command and the package's names are the face."
    part = module.partition(".")[0]
    return "face" if part in FACE else part


def floor(module: str) -> int:
    return next(n for n, rooms in enumerate(FLOORS) if room(module) in rooms)


def arrows() -> Counter:
    "How many imports lead from one package to another."
    return Counter(
        (room(a), room(b))
        for a in modules()
        for b in imports(a)[1] - MAY_LOOK_UP.get(a, set())
        if room(a) != room(b)
    )


def draw(file):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from mambamuse.reproduce.drawing import save_figure

    figure, ax = plt.subplots(figsize=(7, 6.5))
    places = {
        name: (2 * n - len(rooms) + 1 + (0.9 if len(rooms) == 1 and level % 2 else 0), level)
        for level, rooms in enumerate(FLOORS)
        for n, name in enumerate(rooms)
    }
    sizes = Counter(map(room, modules()))
    for (a, b), n in arrows().items():
        ax.annotate(
            "",
            places[b],
            places[a],
            arrowprops=dict(
                arrowstyle="-|>",
                color="0.55",
                lw=0.5 + 0.08 * n,
                shrinkA=20,
                shrinkB=20,
                connectionstyle="arc3,rad=0.18",
            ),
        )
    for name, at in places.items():
        ax.text(
            *at,
            f"{name}\n{sizes[name]} module{'s' * (sizes[name] > 1)}",
            ha="center",
            va="center",
            bbox=dict(boxstyle="round,pad=0.5", fc="white", ec="C0"),
        )
    ax.set(xlim=(-2.5, 3), ylim=(-0.6, len(FLOORS) - 0.4))
    ax.axis("off")
    save_figure(figure, file)


# Notebooks


def trunk() -> list[str]:
    return sorted(path.stem for path in NBS.glob("[0-9]*.ipynb"))


def branches() -> list[str]:
    folders = [
        path
        for path in NBS.iterdir()
        if path.is_dir() and path.name not in ("runs", "pages", ".ipynb_checkpoints")
    ]
    return sorted(f"{path.parent.name}/{path.stem}" for folder in folders for path in folder.glob("*.ipynb"))


def link(goal: str, here: str) -> str:
    "A link from the notebook `here` to the notebook `goal`, both without suffix, below nbs/."
    return f"[{goal}]({os.path.relpath(goal, Path(here).parent)}.ipynb)"


def module_of(cells) -> str:
    "What a notebook exports."
    found = [cell.source.split()[-1] for cell in cells if cell.source.startswith("# | default_exp")]
    return "mambamuse." + found[0]


def neighbours(name: str) -> tuple[str | None, str | None, str]:
    "What comes before a notebook, what comes after it, and what is above it."
    order = ["index", *trunk()]
    above = "index"
    if name not in order:
        above, order = next((root, [root, *names]) for root, names in BRANCHES.items() if name in names)
    at = order.index(name)
    return order[at - 1] if at else None, order[at + 1] if at + 1 < len(order) else None, above


def first_words(name: str, cells) -> str:
    "Where on the walk a notebook is, or which room it fills; and what comes before and after."
    before, after, _ = neighbours(name)
    steps = trunk()
    here = (
        f"**Where you are.** Step {steps.index(name) + 1} of {len(steps)}."
        if name in steps
        else f"**Room.** `{module_of(cells)}`."
    )
    words = [here, f"Before it: {link(before, name)}."]
    return " ".join(words + ([f"After it: {link(after, name)}."] if after else []))


def last_words(name: str) -> str:
    "The way on."
    before, after, above = neighbours(name)
    words = (
        [f"previous: {link(before, name)}"]
        + ([f"next: {link(after, name)}"] if after else [])
        + [f"up: {link(above, name)}"]
    )
    hanging = [link(branch, name) for branch in BRANCHES.get(name, ())]
    return " · ".join(words) + (f"\n\nBranches from here: {', '.join(hanging)}." if hanging else "")


def write_ways():
    "The generated words into every notebook of trunk and branches."
    import nbformat

    for name in trunk() + branches():
        path = NBS / f"{name}.ipynb"
        book = nbformat.read(path, 4)
        head = book.cells[0]
        above = re.split(r"\n\n\*\*(?:Room|Where you are)\.\*\*", head.source)[0]
        head.source = above + "\n\n" + first_words(name, book.cells)
        book.cells = [cell for cell in book.cells if cell.id != "way-on"]
        book.cells.append(nbformat.v4.new_markdown_cell(last_words(name), id="way-on"))
        nbformat.write(book, path)


def note_picture():
    "Let figures/ORIGINS.md know of the picture that is there now."
    words = ["benchmarks/origins.py", "note", "figures/house.png", "--command", "python tests/house.py"]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()
    draw(ROOT / "figures" / "house.png")
    write_ways()
    note_picture()
