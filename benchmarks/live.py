"""Does live run without a drop-out, and where does a block's time go?

    python benchmarks/live.py [--out benchmarks/live.csv] [--only idle parts clock] [--minutes 10]

`clock`: phrases of the test set arrive at the pace of the clock and go through all that `mambamuse live`
does: the step, compiled or exported, on one thread, and what stands around it. Beside nothing, and beside a
program that keeps a core busy; as `mambamuse live` runs, which asks for the system's real-time scheduler, and
as any program. `idle`: the same clock and nothing to compute, which tells what drop-outs the machine makes by
itself. `parts`: the steps alone: the compiled one by instruction, each kind run by itself, and the
exported one under ONNX Runtime's profiler, by operator.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import torch

from mambamuse.judge.pairs import mono, shipped_pairs
from mambamuse.judge.profiling import machine
from mambamuse.model.generator import MambaMuse
from mambamuse.model.weights import load_model
from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.sound.paths import written_beside
from mambamuse.use.compiled import CompiledStep
from mambamuse.use.export import Step, step_model
from mambamuse.use.instructions import KINDS
from mambamuse.use.live import Live, Timed, pace, report, undisturbed
from mambamuse.use.step import UNKNOWN
from mambamuse.use.streaming import signature
from mambamuse.use.tone import FLAT, RunningTone

BUSY = "while True: pass"
PARTS = ["idle", "parts", "clock"]
MEASURES = (
    "p50_ms",
    "p99_ms",
    "worst_ms",
    "jitter_ms",
    "budget_ms",
    "algorithmic_ms",
    "total_ms",
    "drop_outs",
)


def phrases(seconds: float) -> np.ndarray:
    "Contents of the test set, one after the other, `(time,)`."
    rows = [mono(path) for path in shipped_pairs("phrases").content.unique()]
    return np.resize(np.concatenate(rows), round(seconds * SAMPLE_RATE))


def networks() -> dict:
    return {
        "shipped (half width)": load_model().for_inference(),
        "full width, untrained": MambaMuse(axis="clip", alphas=(1.0, 1.0, 1.0, 1.0, 0.2)).for_inference(),
    }


@contextmanager
def busy_core():
    "A program that never rests."
    program = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        program.kill()
        program.wait()


def row(part: str, case: str, measure: str, value: float, n: int, note: str = "") -> dict:
    print(f"{part:6} {case:60} {measure:24} {value:10.4g} n={n} {note}", flush=True)
    return dict(part=part, case=case, measure=measure, value=f"{value:.6g}", n=n, note=note)


def step_of(model, block: int, kind: str):
    "The `model`'s step, compiled or exported."
    with torch.inference_mode():
        style = signature(model, phrases(2.1))
    if kind == "compiled":
        return CompiledStep(model.network(), style, block=block)
    return Step(step_model(model, block).SerializeToString(), style)


def played(model, kind: str, block: int, seconds: float, beside: str, scheduler: str):
    "Rows of one run at the pace of the clock."
    sound = phrases(seconds)
    step = step_of(model, block, kind)
    live = Live(step, tone=RunningTone(FLAT, 0.5))
    pace(live, sound[: 2 * SAMPLE_RATE], block, live.delay)
    timed = Timed(live)
    with busy_core() if beside == "a busy core" else nullcontext():
        with undisturbed() if scheduler == "real time" else nullcontext(False) as first:
            live.start()  # warm, too
            _, late = pace(timed, sound, block, live.delay)
    said = report(timed.times, live, late, first)
    scheduler = scheduler if first or scheduler == "ordinary" else "real time, not granted"
    for measure in MEASURES:
        yield measure, said[measure], said["blocks"], scheduler


def clock(minutes: float) -> Iterator[dict]:
    models = networks()
    shipped, full = models
    alone, beside = "nothing", "a busy core"
    plan = [
        (shipped, "compiled", 256, minutes, alone, "real time"),
        (shipped, "compiled", 256, min(3, minutes), beside, "real time"),
        (shipped, "compiled", 128, min(1, minutes), alone, "real time"),
        (shipped, "compiled", 128, min(1, minutes), beside, "real time"),
        (shipped, "compiled", 64, min(1, minutes), alone, "real time"),
        (shipped, "compiled", 64, min(1, minutes), beside, "real time"),
        (full, "compiled", 256, min(0.5, minutes), alone, "real time"),
        (full, "compiled", 256, min(0.5, minutes), beside, "real time"),
        (shipped, "compiled", 256, min(0.5, minutes), alone, "ordinary"),
        (shipped, "compiled", 256, min(0.5, minutes), beside, "ordinary"),
        (shipped, "exported", 256, min(0.5, minutes), alone, "real time"),
        (shipped, "exported", 256, min(0.5, minutes), beside, "real time"),
    ]
    for name, kind, block, lasts, where, scheduler in plan:
        for measure, value, n, how in played(models[name], kind, block, 60 * lasts, where, scheduler):
            case = f"{name}, {kind}, block {block}, beside {where}, {how}"
            yield row("clock", case, measure, value, n, f"{lasts:g} min")


def idle(minutes: float) -> Iterator[dict]:
    "Drop-outs of a step that does nothing: the machine woke up too late."
    for block in (256, 128, 64):
        sound = np.zeros(round(60 * minutes * SAMPLE_RATE), np.float32)
        with undisturbed() as first:
            _, late = pace(lambda samples: samples, sound, block, 0)
        how = "real time" if first else "real time, not granted"
        case = f"nothing to compute, block {block}, {how}"
        yield row("idle", case, "drop_outs", late, len(sound) // block, f"{minutes:g} min")


def instructions(blocks: int = 200) -> Iterator[dict]:
    "The compiled step's time, by kind of instruction."
    for name, model in networks().items():
        step = step_of(model, 256, "compiled")
        for samples in phrases(0.16).reshape(-1, 256):
            step(samples)
        code = step.machine.code
        took = {kind: seconds(step, code[code["op"] == n], blocks) for n, kind in enumerate(KINDS)}
        for kind, one in sorted(took.items(), key=lambda pair: -pair[1]):
            count = (code["op"] == KINDS.index(kind)).sum()
            note = f"of {1e3 * sum(took.values()):.2f} ms; {count} instructions a block"
            share = 100 * one / sum(took.values())
            yield row("parts", f"{name}, compiled, block 256", f"{kind.lower()}, %", share, blocks, note)


def seconds(step, code, times: int) -> float:
    "The median time of a block through `code`, a part of the step's."
    step.machine.code, taken = code, []
    for _ in range(times):
        began = perf_counter()
        step.machine(UNKNOWN, step.alphas)
        taken.append(perf_counter() - began)
    return float(np.median(taken))


def parts(blocks: int = 200) -> Iterator[dict]:
    "Where the time goes; the profiler makes each call slower, so the shares count."
    yield from instructions(blocks)
    for name, model in networks().items():
        step = step_of(model, 256, "exported")
        options = step.session.get_session_options()
        with tempfile.TemporaryDirectory() as folder:
            options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
            file = step_model(model).SerializeToString()
            step.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            for samples in phrases(blocks * 256 / SAMPLE_RATE).reshape(-1, 256):
                step(samples)
            events = json.loads(Path(step.session.end_profiling()).read_text())
        took, calls = Counter(), Counter()
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                kind = event["args"]["op_name"]
                took[kind] += event["dur"]
                calls[kind] += 1
        whole = sum(took.values())
        for kind, microseconds in took.most_common(12):
            note = f"of the time; {calls[kind] / blocks:.0f} calls a block"
            yield row(
                "parts",
                f"{name}, exported, block 256",
                f"{kind}, %",
                100 * microseconds / whole,
                blocks,
                note,
            )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    kept = list(csv.DictReader(arguments.out.open())) if arguments.out.exists() else []
    rows = [r for r in kept if r["part"] not in arguments.only]
    works = dict(idle=idle(min(1, arguments.minutes)), parts=parts(), clock=clock(arguments.minutes))
    for name, work in works.items():
        for made in work if name in arguments.only else ():
            about = f"{machine()['cpu']}, {os.cpu_count()} cores, onnxruntime {onnxruntime.__version__}"
            rows.append(made | dict(machine=f"{about}, load {os.getloadavg()[0]:.1f}"))
            written(rows, arguments.out)


def written(rows: list[dict], out: Path):
    "The table as far as it is known."
    with written_beside(out) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
