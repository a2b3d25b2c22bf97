"""Is it the same transfer through every door?

    python benchmarks/same.py [--out benchmarks/same.csv] [--pairs 12]

The first pairs of both test sets go through the command, Python, the page try/ in a headless Chromium, the
stream, hosts of the exported step in Python and in Node, the program in C, and the page's live.

Two families differ by design. A file is known to its end, so its statistics are those of the whole: the
command is what the others are compared with there. A stream knows what came so far: there it is the stream,
and for the page's live, which has a level that follows, `mambamuse live` with the same step.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile as sf

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]
import trying
import web
from browser import browsing

from mambamuse.model.weights import load_model
from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.sound.paths import written_beside
from mambamuse.use.compiled import CompiledNetwork, CompiledStep
from mambamuse.use.levels import level, levelled
from mambamuse.use.live import WARM_UP, Live
from mambamuse.use.portable import export_c
from mambamuse.use.step import CARRIED, Carried, Running
from mambamuse.use.streaming import Stream
from mambamuse.use.style import Style
from mambamuse.use.tone import RunningTone
from mambamuse.use.transfer import transfer

EXAMPLES = ROOT / "examples"
HOSTS = {
    "exported step, Python": [sys.executable, EXAMPLES / "host.py"],
    "exported step, Node": ["node", EXAMPLES / "node" / "host.mjs"],
}
NODE_PACKAGES = EXAMPLES / "node" / "node_modules" / "onnxruntime-node"
LIVE_BLOCK = 256


def commanded(content: np.ndarray, style: np.ndarray, folder: Path) -> np.ndarray:
    "What `mambamuse transfer` writes, for files that keep each sample."
    names = [str(folder / name) for name in ("content.wav", "style.wav", "out.wav")]
    for name, sound in zip(names, (content, style)):
        sf.write(name, sound, SAMPLE_RATE, "FLOAT")
    words = ["transfer", *names[:2], "-o", names[2], "--force"]
    subprocess.run([Path(sys.executable).with_name("mambamuse"), *words], check=True, capture_output=True)
    return sf.read(names[2], dtype="float32")[0]


def streamed(model, content: np.ndarray, style: Style) -> np.ndarray:
    "The stream of `content`, at the model's level."
    stream = Stream(model, style.on(model))
    return np.concatenate([stream.push(content[None])[0], stream.flush()[0]])


def hosted(command: list, content: np.ndarray, style: np.ndarray, folder: Path) -> np.ndarray:
    "What an example of a host makes of `content` and `style`, at the model's level."
    for name, sound in (("content", content), ("style", style)):
        sound.astype("<f4").tofile(folder / f"{name}.f32")
    files = [folder / name for name in ("content.f32", "style.f32", "out.f32")]
    subprocess.run(list(map(str, [*command, CARRIED, *files])), check=True)
    return np.fromfile(files[2], "<f4")


def player(network: CompiledNetwork, folder: Path) -> Path:
    "The example in C, compiled."
    export_c(network, folder / "step")
    words = [sys.executable, "-m", "ziglang", "cc", "-O3", "-march=native", "-I", folder / "step"]
    words += ["-o", folder / "play", EXAMPLES / "c" / "play.c", folder / "step" / "network.c", "-lm"]
    subprocess.run(list(map(str, words)), check=True)
    return folder / "play"


def played_in_c(player: Path, content: np.ndarray, style: Style) -> np.ndarray:
    "What the example in C makes of `content`, at the model's level."
    names = [player.with_name(name) for name in ("content.f32", "statistics.f32", "out.f32")]
    content.astype("<f4").tofile(names[0])
    style.statistics.astype("<f4").tofile(names[1])
    subprocess.run([player, player.parent / "step" / "constants.f32", *names], check=True)
    return np.fromfile(names[2], "<f4")


def in_blocks(sound: np.ndarray) -> np.ndarray:
    "`sound (time,)` as `(blocks, LIVE_BLOCK)`, its last part left out."
    return sound[: len(sound) // LIVE_BLOCK * LIVE_BLOCK].reshape(-1, LIVE_BLOCK)


def played(network: CompiledNetwork, content: np.ndarray, style: Style) -> np.ndarray:
    "What `mambamuse live` makes of `content`, as a microphone gives it."
    running = Running(warm_up=WARM_UP)
    step = CompiledStep(network, style.statistics, content=running, block=LIVE_BLOCK)
    live = Live(step, tone=RunningTone(style.tone, network.tone))
    return np.concatenate([live(block) for block in in_blocks(content)])


def doors(page, compiled, model, network, pair, folder: Path):
    "Door, what it is compared with, and the largest difference, for one pair."
    name, content, style = pair
    command = commanded(content, style, folder)
    python = transfer(content, style, network=network)
    browser, _ = trying.transfer(page, name, content, [style, style], network.alphas)
    for door, made in (("Python, ONNX Runtime", python), ("browser", browser)):
        yield door, "command", np.abs(made - command).max()
    prepared, example = (levelled(sound[None], level(sound[None]))[0] for sound in (content, style))
    measured = Style.of(network, style)
    stream = streamed(model, prepared, measured)
    for door, words in HOSTS.items():
        yield door, "stream", np.abs(hosted(words, prepared, example, folder) - stream).max()
    yield "program in C", "stream", np.abs(played_in_c(folder / "play", prepared, measured) - stream).max()
    live = played(compiled, content, measured)
    heard = trying.live(page, in_blocks(content), style, network.alphas)
    yield f"browser, live, block {LIVE_BLOCK}", "live in Python", np.abs(heard - live).max()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--pairs", type=int, default=12)
    arguments = parser.parse_args()
    if words := web.missing():
        sys.exit(words)
    if not NODE_PACKAGES.is_dir():
        sys.exit(f"{NODE_PACKAGES}: not there; npm ci --ignore-scripts, in examples/node")
    network, compiled, model, rows = Carried(), CompiledNetwork.carried(), load_model(), []
    with TemporaryDirectory() as folder:
        site = trying.built(Path(folder, "site"))
        player(compiled, Path(folder))
        with trying.served(site) as address, browsing(Path(folder)) as page:
            page.open(f"{address}{web.PAGE}.html")
            page.until("document.querySelectorAll('.front-hear:not(:disabled)').length === 3")
            trying.begin(page)
            for kind in ("phrases", "notes"):
                for pair in trying.pairs(kind)[: arguments.pairs]:
                    for door, other, difference in doors(page, compiled, model, network, pair, Path(folder)):
                        row = dict(set=kind, pair=pair[0], door=door, compared_with=other)
                        rows.append(row | dict(largest_difference=f"{difference:.2g}"))
                        print(*rows[-1].values(), sep=", ", flush=True)
    with written_beside(arguments.out) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
