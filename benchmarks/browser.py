"""Is the page try/ what Python computes, how long does it take, and how much memory?

    python benchmarks/browser.py [--out benchmarks/browser.csv] [--pairs 12] [--rounds 5] [--seconds 20]

In a headless Chromium, with network.c as WebAssembly on one thread. Wall time is that of the page, from
the request to the sound; processor time that of the tab's process, which does not count what others do.
Memory is the tab's own (unique set size); that of the site's other page, without a network, is beside it.
Live has a file for a microphone and no loudspeaker; a block may take nine tenths of its length before its
output is due. `late` is from the microphone's samples to the loudspeaker's, without the sound card.
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import numpy as np
import psutil
import soundfile as sf

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import trying
import web
from browser import browsing

from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.sound.paths import written_beside
from mambamuse.use.step import Carried
from mambamuse.use.tone import LATE
from mambamuse.use.transfer import transfer

ROWS = []
SECONDS = 2
STEP_DELAY = json.loads(Carried().text("about.json"))["files"]["step-256.onnx"]["delay"]
DELAY = STEP_DELAY + LATE  # samples


def processor() -> str:
    "What the figures were measured on."
    known = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return f"{known[0].split(': ')[1]}, {os.cpu_count()} cores, one used"


def row(case: str, measure: str, value: float, n: int):
    ROWS.append(dict(case=case, measure=measure, value=f"{value:.4g}", n=n, machine=processor()))
    print(f"{case:48} {measure:28} {value:10.4g} n={n}", flush=True)


def tab() -> psutil.Process:
    "The process of the page: of those that the browser has started, the one that has worked most."
    started = [one for browser in psutil.Process().children() for one in browser.children(recursive=True)]
    return max(started, key=lambda one: one.cpu_times().user)


def own(page) -> float:
    "Megabytes that the tab has for itself, without garbage."
    page.call("HeapProfiler.collectGarbage")
    return tab().memory_full_info().uss / 1e6


def equality(page, network, count: int):
    for kind in ("phrases", "notes"):
        worst = 0.0
        for name, content, style in trying.pairs(kind)[:count]:
            made, _ = trying.transfer(page, name, content, [style, style], network.alphas)
            worst = max(worst, float(np.abs(made - transfer(content, style, network=network)).max()))
        row(f"the first pairs of the {kind}", "largest difference to Python", worst, count)


def speed(page, network, rounds: int):
    "2 s of sound: a new content and style, a new content, another alpha."
    sounds = [content[: SECONDS * SAMPLE_RATE] for _, content, _ in trying.pairs("phrases")[: 2 * rounds + 2]]

    def measured(case, ask):
        found = []
        for n in range(rounds):
            before = sum(process.cpu_times()[:2])
            _, wall = ask(n)
            found.append((wall, sum(process.cpu_times()[:2]) - before))
        for measure, values in zip(("seconds, wall", "seconds, processor"), zip(*found)):
            row(f"{SECONDS} s of sound, {case}", f"median {measure}", float(np.median(values)), rounds)

    def ask(name, content, style, alpha=1.0):
        return trying.transfer(page, name, content, [style, style], network.alphas, alpha=alpha)

    ask("first", sounds[-1], sounds[-2])
    process = tab()
    measured("new content, new style", lambda n: ask(f"a{n}", sounds[n], sounds[rounds + n]))
    measured("new content, known style", lambda n: ask(f"b{n}", sounds[n], sounds[-2]))
    measured("known content and style, new alpha", lambda n: ask("c", sounds[0], sounds[-2], (n + 1) / 10))


def memory(page, network):
    "After the longest content and two styles of the same length, mixed; everything else came before."
    rng = np.random.default_rng(0)
    long = [rng.uniform(-0.5, 0.5, 10 * SAMPLE_RATE).astype(np.float32) for _ in range(3)]
    trying.transfer(page, "long", long[0], long[1:], network.alphas, mix=0.5)
    row("10 s of sound, two styles", "memory of the tab, MB", own(page), 1)


def live(page, seconds: float):
    "The microphone through each of the blocks."
    for block in web.BLOCKS:
        page.js(
            f"""(async () => {{
                const {{ Play }} = await import(new URL('play.js', location.href));
                const sound = {{ name: {json.dumps(next(iter(web.sounds())))} }};
                const request = {{ styles: [sound, sound], mix: 0, alpha: 1, alphas: Array(9).fill(1) }};
                const found = {{ block: {block}, delay: {DELAY}, p99: {0.9 * block / SAMPLE_RATE} }};
                window.play = new Play(trial);
                await play.begin(request, found, report => (window.heard = report));
            }})()"""
        )
        sleep(seconds)
        heard = page.js("heard")
        page.js("play.end()")
        case = f"live, blocks of {block} samples"
        row(case, "budget, ms", 1e3 * heard["length"], heard["blocks"])
        row(case, "p50, ms", 1e3 * heard["p50"], heard["blocks"])
        row(case, "p99, ms", 1e3 * heard["p99"], heard["blocks"])
        row(case, "drop-outs", heard["missed"], heard["blocks"])
        row(case, "late, ms", 1e3 * heard["late"], heard["blocks"])
    row("live", "memory of the tab, MB", own(page), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/browser.csv"))
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    if words := web.missing():
        sys.exit(words)
    network = Carried()
    with TemporaryDirectory() as folder:
        site = trying.built(Path(folder, "site"))
        microphone = Path(folder, "microphone.wav")
        sf.write(
            microphone, np.concatenate([content for _, content, _ in trying.pairs("phrases")]), SAMPLE_RATE
        )
        flag = f"--use-file-for-fake-audio-capture={microphone}"
        with trying.served(site) as address, browsing(Path(folder), flag) as page:
            page.open(f"{address}index.html")
            page.until("document.readyState === 'complete'")
            row("a page of the site without a network", "memory of the tab, MB", own(page), 1)
            page.open(f"{address}{web.PAGE}.html")
            page.until("document.querySelectorAll('.front-hear:not(:disabled)').length === 3")
            trying.begin(page)
            equality(page, network, args.pairs)
            speed(page, network, args.rounds)
            memory(page, network)
            live(page, args.seconds)
    with written_beside(args.out) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(ROWS)


if __name__ == "__main__":
    main()
