"""Is this checkout faster or slower than another one? What benchmarks/scan.py and benchmarks/streaming.py
measure of the scan, the generator and the stream, in two processes that take turns. Each has one thread, and
its processor time counts, so that what else the machine does counts little, and the same for both.

    python benchmarks/before_after.py BEFORE [--after AFTER] [--rounds 10] [--out benchmarks/before_after.csv]

BEFORE and AFTER are checkouts (AFTER: this one). It takes about two minutes.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
ONE_THREAD = dict(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
PUSHES = 20  # blocks of the stream that are timed together
MEASURED = {  # what is timed: in how many pairs of calls, for each round
    "scan forward, L=16800 D=128 N=16": 10,
    "scan forward + backward, L=16800 D=128 N=16": 4,
    "generator, 2.1 s": 2,
    "generator step, batch 4 x 1 s": 1,
    "stream, transfer, block 256": 4,
}


# One side, in a process of its own


def found(name: str, *modules: str):
    "`name` from the first of `modules` that the checkout itself has: rooms have moved."
    checkout = Path(os.environ["PYTHONPATH"])
    for module in modules:
        if (checkout / "mambamuse" / f"{module.replace('.', '/')}.py").is_file():
            return getattr(import_module(f"mambamuse.{module}"), name)
    raise SystemExit(f"{name}: not in {checkout}")


def calls() -> dict:
    "What is timed, by name: each a function, and how many times it does its work."
    scan = found("selective_scan", "model.scan", "scan")
    MambaMuse = found("MambaMuse", "model.generator", "generator")
    Stream = found("Stream", "use.streaming", "streaming")
    torch.manual_seed(0)
    u, delta, B, C = (torch.randn(1, n, 16_800) for n in (128, 128, 16, 16))
    delta = delta.abs() * 0.1
    A = -torch.arange(1.0, 17).repeat(128, 1)
    leaves = [x.clone().requires_grad_() for x in (u, delta, A, B, C)]
    model, trained = MambaMuse().for_inference(), MambaMuse()
    clip, batch = torch.rand(1, 1, 33_600) - 0.5, torch.rand(4, 1, 16_000) - 0.5
    block, style = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 16_000)).astype(np.float32)
    stream = Stream(MambaMuse(axis="clip").for_inference(), style)

    def forward():
        with torch.no_grad():
            scan(u, delta, A, B, C)

    def whole():
        with torch.inference_mode():
            model(clip)

    def step():
        trained.zero_grad()
        trained(batch).abs().mean().backward()

    def push():
        for _ in range(PUSHES):
            stream.push(block[:256])

    def both():
        torch.autograd.grad(scan(*leaves).sum(), leaves)

    return dict(zip(MEASURED, ((forward, 1), (both, 1), (whole, 1), (step, 1), (push, PUSHES))))


def serve():
    "Time what standard input names, a line each; answer with seconds."
    known = calls()
    for call, _ in known.values():
        call()
    print("ready", flush=True)
    for line in sys.stdin:
        call, times = known[line.strip()]
        began = process_time()
        call()
        print(json.dumps((process_time() - began) / times), flush=True)


# Both


class Side:
    "A process with the package of `checkout`."

    def __init__(self, checkout: Path):
        self.commit = subprocess.run(
            ["git", "-C", checkout, "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=os.environ | dict(PYTHONPATH=str(checkout.resolve())) | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def seconds(self, name: str) -> float:
        "How long `name` takes now."
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def compare(before: Side, after: Side, rounds: int) -> list[dict]:
    "A row for each of `MEASURED`; whose turn is first changes from round to round."
    rows = []
    for name, often in MEASURED.items():
        pairs = []
        for turn in range(often * rounds):
            order = (before, after) if turn % 2 else (after, before)
            seconds = {side: side.seconds(name) for side in order}
            pairs.append((seconds[before], seconds[after]))
        ratios = [b / a for a, b in pairs]
        low, high = np.quantile(ratios, (0.25, 0.75))
        rows.append(
            dict(
                measurement=name,
                before_ms=round(1e3 * median(a for a, _ in pairs), 3),
                after_ms=round(1e3 * median(b for _, b in pairs), 3),
                after_over_before=round(median(ratios), 3),
                quartile_low=round(float(low), 3),
                quartile_high=round(float(high), 3),
                n=len(pairs),
            )
        )
        print(rows[-1], flush=True)
    return rows


def main():
    "Parse the words, let both sides work in turns, write the table."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--after", type=Path, default=ROOT)
    parser.add_argument(
        "--rounds", type=int, default=10, help="each a few pairs of calls; their median counts"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    if args.before is None:
        parser.error("name the other checkout")
    from mambamuse.judge.profiling import machine  # a side may not have these rooms
    from mambamuse.sound.paths import written_beside

    sides = Side(args.before), Side(args.after)
    rows = compare(*sides, args.rounds)
    for side in sides:
        side.end()
    about = machine()
    known = dict(before=sides[0].commit, after=sides[1].commit)
    known |= dict(machine=about["cpu"], threads=1, torch=about["torch"])
    with written_beside(args.out) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *known])
        writer.writeheader()
        writer.writerows(row | known for row in rows)


if __name__ == "__main__":
    main()
