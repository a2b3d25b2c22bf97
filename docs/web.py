"""The page on which everybody can try the network: its files, laid into a folder of the site.

The graphs are drawn anew for a browser, from the package's weights: other blocks, and nothing that is dear to
compile. They run as WebAssembly on one thread. A block is some thousand small operations: on two cores a
second thread made no transfer shorter (1.5 s for 2 s of sound with one and with two), and beside another
program it made live slower, since threads wait for each other by spinning. WebGPU would start each operation
by itself, has no float64, which the running statistics need, and could not be tested without a GPU.

ONNX Runtime for browsers comes from npm, as docs/web/package-lock.json says; `make setup` installs it. Where
that was not possible there is no such page, and `missing` says so.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from bs4 import BeautifulSoup
from onnx import helper, numpy_helper
from pages import CODE, ROOT

from mambamuse.model.weights import load_model
from mambamuse.use.export import described as step_described
from mambamuse.use.export import stage_models, step_model
from mambamuse.use.step import CARRIED, STAGE_FORMAT, Carried, session_of, stage_file, step_file
from mambamuse.use.style import Style

HERE = ROOT / "docs" / "web"
FRONT = ROOT / "mambamuse" / "front"
TEST_SETS = ROOT / "mambamuse" / "test_sets"
RUNTIME = HERE / "node_modules" / "onnxruntime-web"
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
STAGE_BLOCK = 1_024  # samples: a tenth less work than with the package's 512, and not much more memory
STYLES = "styles.f32"  # of the sounds to choose from, (sounds, 2 * sets, channels): no visitor waits for them
BLOCKS = (256, 512, 1_024)  # samples: for live, the first that a visitor's machine computes in time
PAGE = "try/index"


def missing() -> str:
    "Why there can be no page, in a line; nothing if there can."
    if not (RUNTIME / "dist" / RUNTIME_FILES[0]).is_file():
        return f"{PAGE}: left out, docs/web has no node_modules (npm ci there, with Node.js, brings them)"
    return ""


def page() -> str:
    "The page as Sphinx reads it."
    return (HERE / "page.md").read_text(encoding="utf-8").replace("CODE/", CODE)


def light(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with what casts truth to float32 as a choice between 1 and 0: the same numbers.

    ONNX Runtime's Cast is one function of half a megabyte. A browser that compiles it once more, as it does
    with what runs often, takes 200 MB and two seconds of a processor for it.
    """
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Cast" and made.get(node.input[0]) == "And":
            chosen = [node.input[0], "true_as_float", "false_as_float"]
            node.CopyFrom(helper.make_node("Where", chosen, node.output, node.name))
    numbers = dict(true_as_float=np.float32(1), false_as_float=np.float32(0))
    model.graph.initializer.extend(numpy_helper.from_array(np.array(x), name) for name, x in numbers.items())
    return model


def graphs() -> dict[str, bytes]:
    "The network's files for a browser by their names: its stages, then its steps for live."
    model = load_model()
    found = {stage_file(n): stage for n, stage in enumerate(stage_models(model, STAGE_BLOCK))}
    found |= {step_file(block): step_model(model, block) for block in BLOCKS}
    return {name: light(graph).SerializeToString() for name, graph in found.items()}


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


def live(name: str, step: bytes) -> dict:
    "What a browser must know of a step beside its graph: block, delay, and its memories' kinds and shapes."
    known = step_described(onnx.load_from_string(step))
    memories = {name: known["inputs"][name] for name in known["inputs"] if f"new_{name}" in known["outputs"]}
    kinds = {name: {key: tensor[key] for key in ("kind", "shape")} for name, tensor in memories.items()}
    about = {key: known[key] for key in ("block", "delay", "sets")}
    return dict(file=name, **about, memories=kinds)


def about(drawn: dict[str, bytes]) -> dict:
    "The network of the files `drawn` for a browser, and its places with what they begin with."
    known = json.loads((CARRIED / "about.json").read_text())
    fixed = [] if known["bypass"] else ["skip32"]
    places = [
        dict(name=name, alpha=alpha, fixed=name in fixed)
        for name, alpha in zip(known["places"], known["alphas"])
    ]
    steps = {step_file(block): drawn[step_file(block)] for block in BLOCKS}
    stages = [graph for name, graph in drawn.items() if name not in steps]
    at_once = sum(map(len, stages)) + sum((RUNTIME / "dist" / name).stat().st_size for name in RUNTIME_FILES)
    return dict(
        places=places,
        stages=[described(session_of(stage, STAGE_FORMAT)) for stage in stages],
        widths=list(known["places"].values()),
        sets=known["sets"],
        tone=known["tone"],
        styles=list(sounds()),
        live=[live(name, step) for name, step in steps.items()],
        megabytes=round(at_once / 1e6),
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
    for file in [*modules, *runtime, *sounds().values()]:
        shutil.copy2(file, folder / file.name)
    drawn = graphs()
    for name, graph in drawn.items():
        (folder / name).write_bytes(graph)
    listed = [dict(name=name, file=file.name) for name, file in sounds().items()]
    network = Carried()
    styles = [Style.of(network, file) for file in sounds().values()]
    numbers = [np.append(style.statistics, style.tone) for style in styles]
    (folder / STYLES).write_bytes(np.stack(numbers).astype("<f4").tobytes())
    (folder / "about.json").write_text(json.dumps(about(drawn)), encoding="utf-8")
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
    later = {(folder / step_file(block)).resolve() for block in BLOCKS}  # who plays live loads one of them
    at_once = [file for file in unique if file not in later]
    names = ["./", *(Path(os.path.relpath(file, folder.resolve())).as_posix() for file in at_once)]
    head = f"const FILES = {json.dumps(names)};\nconst VERSION = {json.dumps(version)};\n"
    service.write_text(head + service.read_text(encoding="utf-8"), encoding="utf-8")
