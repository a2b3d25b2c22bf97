"""Is the stream the model, and what does a block cost? The released configuration, untrained
weights.

    python benchmarks/streaming.py [--out benchmarks/streaming.csv] [--only equality step parts]

Run it on a quiet machine. Whether live drops blocks, says benchmarks/live.py.
`--only` leaves rows of other parts in the file as they are.
"""

import argparse
import csv
import os
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from mambamuse.judge.profiling import machine, setting
from mambamuse.model.generator import MambaMuse
from mambamuse.model.weights import fit, pad
from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.sound.paths import written_beside
from mambamuse.use.compiled import CompiledStep
from mambamuse.use.export import Step, step_model
from mambamuse.use.streaming import Stream, cuts, signature

ROWS = []


def row(part, case, measure, value, n, note=""):
    ROWS.append(dict(part=part, case=case, measure=measure, value=f"{value:.6g}", n=n, note=note))
    print("{part:9} {case:56} {measure:20} {value:>12} n={n} {note}".format(**ROWS[-1]), flush=True)


def noise(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * SAMPLE_RATE)).astype(np.float32)


def equality(chunkings=10, seeds=3):
    "Worst difference to the offline pass over random cuts of 2.1 s, blocks from 1 sample to 2 s."
    for axis in ("frame", "clip"):
        worst = {}
        for seed in range(seeds):
            torch.manual_seed(seed)
            rng, model, x, style = (
                np.random.default_rng(seed),
                MambaMuse(axis=axis).for_inference(),
                noise(2.1, seed),
                noise(1.3, seed + 100),
            )
            y = pad(torch.from_numpy(x)[None, None])
            with torch.inference_mode():
                cases = {"reconstruction": ((), model(y))}
                if axis == "frame":
                    cases["transfer"] = (
                        (style,),
                        model(y, fit(torch.from_numpy(style), y.shape[-1])[None, None]),
                    )
            for case, (arguments, want) in cases.items():
                for _ in range(chunkings):
                    stream = Stream(model, *arguments)
                    got = np.concatenate(
                        [
                            *map(
                                stream.push, np.split(x, np.cumsum(cuts(len(x), 2 * SAMPLE_RATE, rng))[:-1])
                            ),
                            stream.flush(),
                        ]
                    )
                    worst[case] = max(
                        worst.get(case, 0), float(abs(got - want[0, 0, : len(x)].numpy()).max())
                    )
        for case, value in worst.items():
            row("equality", f"{axis}, {case}", "worst difference", value, chunkings * seeds)


WIDTHS = {"full width": (32, 64, 128, 256), "half width": (16, 32, 64, 128)}
ALPHAS = {
    "reconstruction": (0.0,) * 9,
    "transfer": (1.0, 1.0, 1.0, 1.0, 0.2),
    "transfer at nine places": (1.0,) * 9,
}


def ready(widths, case):
    "A model on the clip axis, and a style for it if the case has one."
    model = MambaMuse(widths=WIDTHS[widths], axis="clip", alphas=ALPHAS[case]).for_inference()
    with torch.inference_mode():
        return model, signature(model, noise(2.1, 1)) if any(model.alphas) else None


def step(n=200):
    """Wall time of a block: PyTorch's stream, the exported step and the compiled one, turn by turn in one
    process, one thread each.
    """
    for widths in WIDTHS:
        for case in ("reconstruction", "transfer"):
            model, style = ready(widths, case)
            for block in (128, 256, 512):
                began = perf_counter()
                exported = Step(step_model(model, block).SerializeToString(), style)
                row(
                    "step",
                    f"{widths}, {case}, block {block}",
                    "drawn and loaded, s",
                    perf_counter() - began,
                    1,
                )
                pushes = {
                    "stream": Stream(model, style).push,
                    "step": exported,
                    "compiled": CompiledStep(model.network(), style, block=block),
                }
                times = {name: [] for name in pushes}
                for samples in noise((n + 20) * block / SAMPLE_RATE).reshape(-1, block):
                    for name, push in pushes.items():
                        began = perf_counter()
                        push(samples)
                        times[name].append(1e3 * (perf_counter() - began))
                for name in pushes:
                    for measure, q in (("median", 0.5), ("p95", 0.95), ("p99", 0.99)):
                        row(
                            "step",
                            f"{widths}, {case}, block {block}",
                            f"{name}, {measure}, ms",
                            np.quantile(times[name][20:], q),
                            n,
                            "one thread, turn by turn",
                        )
                medians = {name: np.median(each[20:]) for name, each in times.items()}
                for over, under in (("stream", "step"), ("step", "compiled")):
                    row(
                        "step",
                        f"{widths}, {case}, block {block}",
                        f"{over} over {under}",
                        medians[over] / medians[under],
                        n,
                        "ratio of the medians",
                    )


KINDS = {
    "aten::mm": "matrix products",
    "aten::addmm": "matrix products",
    "mambamuse::scan_numba": "scan",
    "aten::mkldnn_convolution": "depthwise convolutions",
    "aten::copy_": "copies",
    "aten::cat": "copies",
    "aten::native_layer_norm": "norms",
}


def parts(pushes=100):
    """Where the processor's time for a block of 256 goes; what no operator accounts for is Python and
    PyTorch's way to the operators.
    """
    stream, x, times = Stream(MambaMuse(axis="clip").for_inference()), noise(256 / SAMPLE_RATE), []
    for _ in range(20):
        stream.push(x)
    for _ in range(pushes):
        began = process_time()
        stream.push(x)
        times.append(process_time() - began)
    row("parts", "block 256", "whole, ms", 1e3 * np.median(times), pushes, "processor time, median")
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(pushes):
            stream.push(x)
    events = [e for e in seen.key_averages() if "::" in e.key]
    kinds = {}
    for e in events:
        kinds[KINDS.get(e.key, "small operators")] = (
            kinds.get(KINDS.get(e.key, "small operators"), 0) + e.self_cpu_time_total / 1e3 / pushes
        )
    for kind, ms in sorted(kinds.items(), key=lambda kind: -kind[1]):
        row(
            "parts",
            "block 256",
            f"{kind}, ms",
            ms,
            pushes,
            "wall time under torch.profiler, which slows calls",
        )
    row(
        "parts",
        "block 256",
        "operator calls",
        sum(e.count for e in events) / pushes,
        pushes,
        "views included",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--only", nargs="+", default=["equality", "step", "parts"])
    arguments = parser.parse_args()
    where = machine()
    print(where)
    kept = [r for r in csv.DictReader(arguments.out.open())] if arguments.out.exists() else []
    if "equality" in arguments.only:
        equality()
    if "step" in arguments.only:
        with setting(None, threads=1):
            step()
    if "parts" in arguments.only:
        parts()
    about = (
        f"{where['cpu']}, {where['threads']} thread(s), torch {where['torch']}, load {os.getloadavg()[0]:.1f}"
        " at the end"
    )
    rows = [r for r in kept if r["part"] not in arguments.only] + [r | dict(machine=about) for r in ROWS]
    with written_beside(arguments.out) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader(), writer.writerows(rows)
