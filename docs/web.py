"""The page on which everybody can try the network: its files, laid into a folder of the site.

ONNX Runtime for browsers comes from npm, as docs/web/package-lock.json says; `make setup` installs it. Where
that was not possible there is no such page, and `missing` says so.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
from bs4 import BeautifulSoup
from pages import CODE, ROOT

from mambamuse.use.step import CARRIED, STAGE_FORMAT, Carried, session_of, stage_file
from mambamuse.use.style import Style

HERE = ROOT / "docs" / "web"
FRONT = ROOT / "mambamuse" / "front"
TEST_SETS = ROOT / "mambamuse" / "test_sets"
RUNTIME = HERE / "node_modules" / "onnxruntime-web"
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
STAGES = 6
STYLES = "styles.f32"  # of the sounds to choose from, (sounds, 2 * sets, channels): a visitor need not wait for them
PAGE = "try/index"


def missing() -> str:
    "Why there can be no page, in a line; nothing if there can."
    if (RUNTIME / "dist" / RUNTIME_FILES[0]).is_file():
        return ""
    return f"{PAGE}: left out, docs/web has no node_modules (npm ci there, with Node.js, brings them)"


def page() -> str:
    "The page as Sphinx reads it."
    return (HERE / "page.md").read_text(encoding="utf-8").replace("CODE/", CODE)


def described(session: onnxruntime.InferenceSession) -> dict:
    "What a browser must know of a stage beside its graph: shapes, rates and delays."
    about = session.get_modelmeta().custom_metadata_map
    inputs = {put.name: put.shape for put in session.get_inputs()}
    outputs = {put.name: put.shape for put in session.get_outputs()}
    rates = json.loads(about["rates"])
    return dict(
        block=int(about["block"]),
        rates=rates,
        delays=json.loads(about["delays"]),
        shapes={name: inputs[name] for name in ("x", "skip") if name in inputs},
        widths=[outputs[f"y{n}"][1] for n in range(len(rates))],
        state=inputs["state"][0],
    )


def about() -> dict:
    "The package's network for a browser: its stages, and its places with what they begin with."
    known = json.loads((CARRIED / "about.json").read_text())
    fixed = [] if known["bypass"] else ["skip32"]
    places = [
        dict(name=name, alpha=alpha, fixed=name in fixed)
        for name, alpha in zip(known["places"], known["alphas"])
    ]
    stages = [described(session_of(CARRIED / stage_file(n), STAGE_FORMAT)) for n in range(STAGES)]
    loaded = [CARRIED / stage_file(n) for n in range(STAGES)]
    loaded += [RUNTIME / "dist" / name for name in RUNTIME_FILES]
    return dict(
        places=places,
        stages=stages,
        widths=list(known["places"].values()),
        sets=known["sets"],
        styles=list(sounds()),
        megabytes=round(sum(file.stat().st_size for file in loaded) / 1e6),
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
    modules = [*FRONT.glob("*.js"), *FRONT.glob("*.css"), *HERE.glob("*.js")]
    runtime = [RUNTIME / "dist" / name for name in RUNTIME_FILES]
    stages = [CARRIED / stage_file(n) for n in range(STAGES)]
    for file in [*modules, *runtime, *stages, *sounds().values()]:
        shutil.copy2(file, folder / file.name)
    listed = [dict(name=name, file=file.name) for name, file in sounds().items()]
    network = Carried()
    styles = [Style.of(network, file).statistics for file in sounds().values()]
    (folder / STYLES).write_bytes(np.stack(styles).astype("<f4").tobytes())
    (folder / "about.json").write_text(json.dumps(about()), encoding="utf-8")
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
