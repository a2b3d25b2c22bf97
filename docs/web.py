"""The page on which everybody can try the network: its files, laid into a folder of the site.

The network's programs are written by `mambamuse.use.portable`, from the package's weights, and run by
`network.c` as WebAssembly, on one thread, in a worker. That is 30 kB. ONNX Runtime for browsers, which did
this before, has 12 MB, and took several times as long: a block is some thousand small operations, and most of
its time passed between them. WebGPU would start each of them by itself.

The compiler is Zig's, from PyPI; axe-core, with which the page is tested, comes from npm.
"""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from bs4 import BeautifulSoup
from pages import CODE, ROOT

from mambamuse.model.places import PLACES
from mambamuse.use.compiled import CompiledNetwork
from mambamuse.use.portable import constants, portable, webassembly
from mambamuse.use.program import stage_program, step_program
from mambamuse.use.style import Style

HERE = ROOT / "docs" / "web"
FRONT = ROOT / "mambamuse" / "front"
TEST_SETS = ROOT / "mambamuse" / "test_sets"
MODULE, PROGRAMS, CONSTANTS = "network.wasm", "programs.i32", "network.f32"
STAGES, STAGE_BLOCK = 6, 512  # samples
STYLES = "styles.f32"  # of the sounds to choose from, (sounds, 2 * sets, channels): no visitor waits for them
BLOCKS = (128, 256, 512)  # samples: for live, the first that a visitor's machine computes in time
PAGE = "try/index"


def missing() -> str:
    "Why there can be no page, in a line; nothing if there can."
    return "" if find_spec("ziglang") else f"{PAGE}: left out, pip install ziglang brings its compiler"


def page() -> str:
    "The page as Sphinx reads it."
    return (HERE / "page.md").read_text(encoding="utf-8").replace("CODE/", CODE)


def spans(sizes: Iterable[int]) -> list[tuple[int, int]]:
    "First and last of each, if they lie one behind the other."
    return list(pairwise(accumulate(sizes, initial=0)))


def programs(network: CompiledNetwork) -> tuple[list[dict], np.ndarray, np.ndarray]:
    """What is said about each stage of the `network`, and about its step for each of `BLOCKS`; their
    instructions, one after the other; and the constants of all.
    """
    parts = network.parameters, network.bypass, network.sets
    stages = [stage_program(*parts, number) for number in range(STAGES)]
    step = step_program(*parts, [1.0] * len(PLACES))
    laid = [(stage, STAGE_BLOCK) for stage in stages] + [(step, block) for block in BLOCKS]
    codes, about = zip(*(portable(program, block) for program, block in laid))
    rows, weights = (
        np.cumsum([0, *sizes]).tolist() for sizes in (map(np.size, codes), (stage.size for stage in stages))
    )
    for one, code in zip(about, pairwise(rows)):
        one |= dict(code=code, weights=(0, step.size))
    for one, span in zip(about, pairwise(weights)):
        one["weights"] = span
    return list(about), np.concatenate([code.ravel() for code in codes]), constants(step)


def about(network: CompiledNetwork, programs: list[dict], files: dict[str, bytes]) -> dict:
    "What a browser must know of the `network` and its `files`."
    fixed = [] if network.bypass else ["skip32"]
    places = [
        dict(name=name, alpha=alpha, fixed=name in fixed)
        for name, alpha in zip(network.places, network.alphas)
    ]
    return dict(
        places=places,
        programs=programs,
        stages=STAGES,
        widths=list(network.places.values()),
        sets=network.sets,
        tone=network.tone,
        styles=list(sounds()),
        files={name: zlib.crc32(data) for name, data in files.items()},
        megabytes=round(sum(map(len, files.values())) / 1e6),
    )


def sounds() -> dict[str, Path]:
    "A phrase and a note of each instrument of the test sets, as in `mambamuse.use.playground.examples`."
    found = {}
    for kind in ("phrases", "notes"):
        rows = pd.read_csv(TEST_SETS / kind / "pairs.csv").drop_duplicates("content_instrument")
        for row in rows.itertuples():
            found[f"{row.content_instrument}, {kind[:-1]}"] = TEST_SETS / kind / row.content
    return found


def lay(out: Path) -> None:
    "All that the page loads, beside its HTML, which is in the site `out` already."
    folder = (out / PAGE).parent
    for file in [*FRONT.glob("*.js"), *FRONT.glob("*.css"), *HERE.glob("*.js"), *sounds().values()]:
        shutil.copy2(file, folder / file.name)
    network = CompiledNetwork.carried()
    described, code, weights = programs(network)
    styles = [Style.of(network, file) for file in sounds().values()]
    numbers = np.stack([np.append(style.statistics, style.tone) for style in styles])
    files = {
        MODULE: webassembly(),
        PROGRAMS: code.astype("<i4").tobytes(),
        CONSTANTS: weights.astype("<f4").tobytes(),
        STYLES: numbers.astype("<f4").tobytes(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    known = about(network, described, files)
    (folder / "about.json").write_text(json.dumps(known), encoding="utf-8")
    listed = [dict(name=name, file=file.name) for name, file in sounds().items()]
    (folder / "sounds.json").write_text(json.dumps(listed), encoding="utf-8")


def offline(out: Path) -> None:
    "The names of all that the page loads, and a hash of it, for its service worker."
    folder = (out / PAGE).parent
    service = folder / "service.js"
    html = folder / "index.html"
    files = [path for path in sorted(folder.iterdir()) if path != service]
    parsed = BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser")
    loads = [tag["href"] for tag in parsed.select("link[rel=stylesheet][href], link[rel=icon][href]")]
    loads += [tag["src"] for tag in parsed.select("script[src], img[src]")]
    files += [folder / name.partition("?")[0] for name in loads]
    unique = sorted({file.resolve() for file in files})
    version = hashlib.sha256(b"".join(file.read_bytes() for file in unique)).hexdigest()[:16]
    names = ["./", *(Path(os.path.relpath(file, folder.resolve())).as_posix() for file in unique)]
    head = f"const FILES = {json.dumps(names)};\nconst VERSION = {json.dumps(version)};\n"
    service.write_text(head + service.read_text(encoding="utf-8"), encoding="utf-8")
