"""How fast are the scan, the generator and its training on a CUDA GPU, with which scan, in which precision?
Medians, n stated.

    python benchmarks/gpu.py [--check] [--out benchmarks/gpu.csv] [--repeats 9]

`--check` first compares the scans with the readable one in float64 on this GPU, and stops if one is wrong.
mamba-ssm's is measured
if it is installed (extra `cuda`). A time is that of one call, from a synchronised GPU to a synchronised GPU.
"""

import argparse
import csv
import gc
import os
import sys
import tempfile
from contextlib import nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from mambamuse.judge.profiling import machine
from mambamuse.learn.config import TrainingConfig
from mambamuse.learn.losses import LossConfig
from mambamuse.learn.optimisers import update
from mambamuse.learn.trainer import Trainer
from mambamuse.model.config import ModelConfig
from mambamuse.model.generator import MambaMuse
from mambamuse.model.scan import importable, selective_scan
from mambamuse.model.scan_reference import selective_scan_torch
from mambamuse.sound.audio import CLIP, SAMPLE_RATE
from mambamuse.sound.paths import written_beside

NEEDS = dict(triton=("triton", "jit"), mamba_ssm=("selective_scan_cuda", "fwd"), torch=("torch", "Tensor"))
PRECISIONS = "float32", "tf32", "bfloat16"
SIGNALS = "u", "delta", "B", "C", "z"
ROWS = []


FIGURES = "ms", "n", "first_call_s", "peak_MB", "rtf", "error", "note"


def empty(measurement, backend, precision, batch):
    "A line of the table that has no figures yet."
    about = dict(measurement=measurement, backend=backend, precision=precision, batch=batch)
    return about | dict.fromkeys(FIGURES, "")


def row(measurement, backend, precision, batch, figures):
    "One line of the table; `figures` from `measured`, or a string that says why there are none."
    figures = dict(note=f"not measured: {figures}") if isinstance(figures, str) else figures
    ROWS.append(empty(measurement, backend, precision, batch) | figures)
    print(
        "{measurement:26} {backend:10} {precision:9} batch {batch:<3} {ms!s:>10} ms  RTF {rtf!s:<9} first"
        " call {first_call_s!s:>7} s  peak {peak_MB!s:>8} MB  {note}".format(**ROWS[-1]),
        flush=True,
    )


def measured(f, repeats, device, seconds_of_sound=None):
    """Time and peak memory of `f()`: median over `repeats` calls, after the first, timed apart because it
    compiles, and two more.
    """
    synchronise = torch.cuda.synchronize if device == "cuda" else lambda: None

    def call():
        synchronise()
        began = perf_counter()
        f()
        synchronise()
        return perf_counter() - began

    try:
        first, *_ = call(), call(), call()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = median(call() for _ in range(repeats))
    except torch.OutOfMemoryError:
        return "does not fit into this GPU's memory"
    peak = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0
    return dict(
        ms=round(1e3 * seconds, 3),
        n=repeats,
        first_call_s=round(first, 2),
        peak_MB=round(peak),
        rtf=round(seconds / seconds_of_sound, 5) if seconds_of_sound else "",
    )


def measure(measurement, backends, precisions, batch, make, repeats, device, seconds_of_sound=None):
    "A row for each backend and precision of what `make(precision)` returns, a function without arguments."
    for backend in backends:
        os.environ["MAMBAMUSE_SCAN"] = backend
        for precision in precisions:
            # Of float32 products; in bfloat16 what autocast leaves in float32 stays exact.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
            gc.collect()  # so that the peak is this one's
            there = importable(*NEEDS[backend])
            row(
                measurement,
                backend,
                precision,
                batch,
                measured(make(precision), repeats, device, seconds_of_sound) if there else "not installed",
            )


def scan_arguments(batch, d, time, dtype, device, n=16):
    "As a Mamba block makes them: channels adjacent in memory, weights in float32."

    def r(*shape):
        return torch.randn(*shape, device=device)

    def signal(channels):
        return r(batch, time, channels).transpose(1, 2)

    x = dict(
        u=signal(d),
        delta=signal(d) - 3,
        A=-torch.arange(1.0, n + 1, device=device).repeat(d, 1),
        B=signal(n),
        C=signal(n),
        D=r(d),
        z=signal(d),
        delta_bias=r(d),
    )
    return {k: (v.to(dtype) if k in SIGNALS else v).requires_grad_() for k, v in x.items()}


def output_and_gradients(scan, x):
    y = scan(**x, delta_softplus=True)
    weights = (
        torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y)
    )  # the same numbers in every type
    return dict(
        y=y.detach(),
        **{f"g_{k}": g for k, g in zip(x, torch.autograd.grad((y * weights).sum(), list(x.values())))},
    )


def check(device, shapes=((1, 7, 65), (2, 40, 1_000), (3, 64, 16_800), (1, 512, 2_100))):
    "Largest errors, relative to the largest value; stops at the first that is too large."
    for backend in ("triton", "mamba_ssm"):
        if not importable(*NEEDS[backend]):
            print(f"{backend}: not checked: not installed")
            continue
        for shape in shapes:
            for dtype, limit in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2), (torch.float16, 2e-2)):
                x = scan_arguments(*shape, dtype, device)
                exact = output_and_gradients(
                    selective_scan_torch, {k: v.detach().double().requires_grad_() for k, v in x.items()}
                )
                ours = output_and_gradients(partial(selective_scan, backend=backend), x)
                error = {
                    k: ((ours[k].double() - v).abs().max() / v.abs().max()).item() for k, v in exact.items()
                }
                print(
                    f"{backend:9} {shape!s:15} {str(dtype)[6:]:8}",
                    *(f"{k} {e:.0e}" for k, e in error.items()),
                    flush=True,
                )
                ROWS.append(
                    empty(f"scan {shape}, largest error", backend, str(dtype)[6:], shape[0])
                    | dict(error=f"{max(error.values()):.0e}")
                )
                if wrong := [k for k, e in error.items() if not e <= limit]:
                    raise SystemExit(f"{backend} is wrong: {', '.join(wrong)}")


def bench_scan(repeats, device, batches=(1, 32), d=64, time=CLIP // 2):
    "The scan of the first Mamba blocks, forward, then forward and backward."
    for batch in batches:

        def forward(precision):
            x = scan_arguments(batch, d, time, getattr(torch, precision), device)
            return torch.no_grad()(lambda: selective_scan(**x, delta_softplus=True))

        def both(precision):
            x = scan_arguments(batch, d, time, getattr(torch, precision), device)
            return lambda: torch.autograd.grad(
                selective_scan(**x, delta_softplus=True).sum(), list(x.values())
            )

        for name, make in (("scan forward", forward), ("scan forward + backward", both)):
            measure(name, NEEDS, ("float32", "bfloat16"), batch, make, repeats, device)


def autocast(precision, device):
    return torch.autocast(device, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def bench_generator(repeats, device, batches=(1, 32), samples=CLIP):
    "Reconstruction of 2.1 s."
    torch.manual_seed(0)
    model = MambaMuse().for_inference().to(device)
    for batch in batches:
        x = torch.rand(batch, 1, samples, device=device) - 0.5

        def make(precision):
            def run():
                with torch.inference_mode(), autocast(precision, device):
                    model(x)

            return run

        # the readable scan, a loop in Python, would take minutes for a batch
        backends = [backend for backend in NEEDS if backend != "torch" or batch == 1]
        seconds = batch * samples / SAMPLE_RATE
        measure("generator", backends, PRECISIONS, batch, make, repeats, device, seconds)


def bench_training(repeats, device, batch=32, samples=CLIP):
    "One step of the released recipe: the generator with its spectral losses alone, then with the critics."
    real = torch.rand(batch, 1, samples, device=device) - 0.5

    def trainer(precision):
        return Trainer(
            ModelConfig(),
            LossConfig(),
            TrainingConfig(precision="bf16" if precision == "bfloat16" else precision),
        )

    def alone(precision):
        t = trainer(precision)

        def step():
            mel, stft = t.spectral(t.run(t.generate, real), real)
            loss = t.loss.lambda_mel * mel + t.loss.lambda_stft * stft
            loss.backward()
            update(t.optimisers["generator"], loss, {"generator": t.generator}, t.config.clip_generator)

        return step

    def with_critics(precision):
        t = trainer(precision)
        return lambda: t.step(real)

    for name, make in (("training step, generator", alone), ("training step, all", with_critics)):
        measure(name, ("triton", "mamba_ssm"), PRECISIONS, batch, make, repeats, device)


def versions():
    "GPU and packages, for every line of the file."

    def installed(package):
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    return dict(
        machine=machine()["device"],
        torch=torch.__version__,
        cuda=torch.version.cuda,
        triton=installed("triton"),
        mamba_ssm=installed("mamba-ssm"),
    )


def write(out, about):
    with written_beside(out) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, [*ROWS[0], *about])
        writer.writeheader()
        writer.writerows(r | about for r in ROWS)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare with float64 first")
    parser.add_argument("--out", default=str(Path(__file__).with_name("gpu.csv")), help="the result file")
    parser.add_argument("--repeats", type=int, default=9, help="timed calls; the median counts")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "benchmarks/gpu.py needs a CUDA GPU and a PyTorch built for it; torch.cuda.is_available() says"
            " there is none",
            file=sys.stderr,
        )
        raise SystemExit(2)
    about = versions()
    print(about)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache  # empty, so that first calls compile
        if args.check:
            check("cuda")
        for bench in (bench_scan, bench_generator, bench_training):
            bench(args.repeats, "cuda")
            write(args.out, about)  # what is measured is kept, whatever comes


if __name__ == "__main__":
    main()
