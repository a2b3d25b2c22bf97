"""How fast is the selective scan, alone and in the model, and against what? Ratios in one run, medians, n
stated.

    python benchmarks/scan.py [--out benchmarks/scan.csv] [--repeats 7] [--quick]

Needs the extra `bench` (mambapy, transformers), mamba-ssm and gcc. Run it on a quiet machine; it takes about
a quarter of an hour (`--quick`: five minutes).
"""

import argparse
import csv
import ctypes
import gc
import math
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from statistics import median
from time import perf_counter

sys.modules["mamba_ssm"] = None  # so that transformers takes its own path for CPUs
from transformers.models.mamba.configuration_mamba import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

del sys.modules["mamba_ssm"]
sys.modules["selective_scan_cuda"] = types.ModuleType(
    "selective_scan_cuda"
)  # mamba-ssm imports without CUDA, for its reference

import numpy as np
import torch
from mamba_ssm.ops.selective_scan_interface import selective_scan_ref
from mambapy.pscan import pscan

import mambamuse.model.mamba
from mambamuse.judge.profiling import machine, macs, peak_memory
from mambamuse.model.generator import MambaMuse
from mambamuse.model.mamba import Mamba
from mambamuse.model.scan import selective_scan
from mambamuse.model.scan_reference import selective_scan_torch
from mambamuse.sound.paths import written_beside

ROWS = []


def row(measurement, variant, seconds, repeats, baseline=None, note=""):
    "One line of the table; `baseline` seconds give the ratio."
    ROWS.append(
        dict(
            measurement=measurement,
            variant=variant,
            ms=round(1e3 * seconds, 3),
            ratio=round(seconds / baseline, 2) if baseline else 1.0,
            n=repeats,
            note=note,
        )
    )
    print(
        "{measurement:42} {variant:28} {ms:12.2f} ms  x{ratio:<8} n={n} {note}".format(**ROWS[-1]), flush=True
    )


def timed(f, repeats):
    "Median seconds of `f()` over `repeats` calls, after one to warm up."
    f()
    times = []
    for _ in range(repeats):
        began = perf_counter()
        f()
        times.append(perf_counter() - began)
    return median(times)


def scan_mambapy(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    "mambapy's parallel scan behind the usual signature; it pads time to a power of two itself."
    delta = delta + delta_bias[:, None] if delta_bias is not None else delta
    delta = torch.nn.functional.softplus(delta) if delta_softplus else delta
    u_, delta_ = u.transpose(1, 2), delta.transpose(1, 2)  # (batch, time, d)
    a = torch.exp(delta_[..., None] * A)  # (batch, time, d, n)
    b = delta_[..., None] * B.transpose(1, 2)[:, :, None] * u_[..., None]
    y = (pscan(a, b) @ C.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    y = y + u * D[:, None] if D is not None else y
    return y * torch.nn.functional.silu(z) if z is not None else y


def c_kernel(u, delta, A, B, C):
    "A call of the C yardstick on these tensors (batch 1), and its output `(time, d)`."
    library = tempfile.NamedTemporaryFile(suffix=".so", delete=False).name
    subprocess.run(
        [
            "gcc",
            "-O3",
            "-march=native",
            "-fopenmp",
            "-shared",
            "-fPIC",
            "-o",
            library,
            Path(__file__).with_name("scan.c"),
        ],
        check=True,
    )
    d, n = A.shape
    blocks = (A * math.log2(math.e)).view(d // 16, 16, n).transpose(1, 2)
    arrays = [np.ascontiguousarray(x) for x in (u[0].T, delta[0].T, blocks, B[0].T, C[0].T)]
    y = np.empty_like(arrays[0])
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (*arrays, y)]
    kernel = ctypes.CDLL(library).scan
    return lambda: kernel(*pointers, *map(ctypes.c_long, (u.shape[2], d, n))), y, arrays


def bench_first_call():
    """The first scan of a machine, which compiles, and the first of a later process, which finds the kernel
    on disk.
    """
    code = """
import time, torch
from mambamuse.model.scan import selective_scan
x = torch.randn(1, 16, 64)
began = time.perf_counter()
selective_scan(x, x, -torch.rand(16, 16), x, x)
print(time.perf_counter() - began)"""
    with tempfile.TemporaryDirectory() as cache:
        for which in ("on this machine", "of a later process"):
            run = subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | dict(NUMBA_CACHE_DIR=cache),
                capture_output=True,
                text=True,
                check=True,
            )
            row("first call of the scan", which, float(run.stdout), 1, note="imports numba")


def bench_scan(repeats, time=16_800, d=128, n=16):
    "One scan, forward, then forward and backward."
    torch.manual_seed(0)
    u, delta, B, C = (
        torch.randn(1, time, d),
        torch.rand(1, time, d) * 0.1,
        torch.randn(1, time, n),
        torch.randn(1, time, n),
    )
    u, delta, B, C = (x.transpose(1, 2) for x in (u, delta, B, C))
    A = -torch.arange(1.0, n + 1).repeat(d, 1)
    call, y, _keep = c_kernel(u, delta, A, B, C)
    variants = {
        "numba": lambda: selective_scan(u, delta, A, B, C),
        "plain C": call,
        "torch (readable)": lambda: selective_scan_torch(u, delta, A, B, C),
        "mambapy": lambda: scan_mambapy(u, delta, A, B, C),
    }
    exact = selective_scan_torch(*(x.double() for x in (u, delta, A, B, C)))
    call()
    error = (torch.from_numpy(y).T - exact[0]).abs().max() / exact.abs().max()
    assert error < 1e-5, f"the C kernel is wrong: {error}"
    name = f"scan forward, L={time} D={d} N={n}"
    with torch.no_grad():
        seconds = {k: timed(f, repeats) for k, f in variants.items()}
    for k, s in seconds.items():
        row(name, k, s, repeats, seconds["numba"])

    leaves = [x.detach().clone().requires_grad_() for x in (u, delta, A, B, C)]
    inputs_mb = sum(x.numel() * 4 for x in leaves) / 1e6
    name = f"scan forward + backward, L={time} D={d} N={n}"
    seconds = {}
    for k, f in {
        "numba": selective_scan,
        "torch (readable)": selective_scan_torch,
        "mambapy": scan_mambapy,
    }.items():

        def run():
            return torch.autograd.grad(f(*leaves).sum(), leaves)

        seconds[k] = timed(run, repeats)
        row(
            name,
            k,
            seconds[k],
            repeats,
            seconds["numba"],
            f"peak memory {peak_memory(run, 'cpu') / 1e6:.0f} MB beyond the inputs' {inputs_mb:.0f} MB",
        )


class with_scan:
    "Let every Mamba block use another scan for a while."

    def __init__(self, scan):
        self.scan = scan

    def __enter__(self):
        mambamuse.model.mamba.selective_scan = self.scan

    def __exit__(self, *_):
        mambamuse.model.mamba.selective_scan = selective_scan


def with_transformers(model):
    "A copy of `model` whose Mambas are Hugging Face transformers' `MambaMixer` with the same weights."
    copy = MambaMuse().for_inference()
    copy.load_state_dict(model.state_dict())
    for parent in list(copy.modules()):
        for i, child in enumerate(parent if isinstance(parent, torch.nn.ModuleList) else ()):
            if isinstance(child, Mamba):
                width = child.in_proj.in_features
                mixer = MambaMixer(
                    MambaConfig(
                        hidden_size=width,
                        state_size=child.d_state,
                        conv_kernel=4,
                        expand=2,
                        time_step_rank=child.dt_rank,
                        use_bias=False,
                        use_conv_bias=True,
                    ),
                    i,
                )
                mixer.load_state_dict(child.state_dict())
                parent[i] = mixer
    return copy.eval()


def product_limit(seconds=2.1):
    """Seconds that the model's multiply-adds would take at the speed of a large float32 matrix product on
    this machine.
    """
    a, b = torch.randn(2_048, 2_048), torch.randn(2_048, 2_048)
    per_mac = timed(lambda: a @ b, 15) / 2_048**3
    return sum(r["macs"] for r in macs(MambaMuse(), (1, 1, round(seconds * 16_000)))) * per_mac


def bench_generator(repeats, slow_repeats):
    "One reconstruction of 2.1 s with different scans; the real-time factor."
    torch.manual_seed(0)
    model, x = MambaMuse().for_inference(), torch.rand(1, 1, 33_600) - 0.5
    name, limit = "generator, 2.1 s", product_limit()
    with torch.inference_mode():
        ours, want = timed(lambda: model(x), repeats), model(x)
        row(name, "numba", ours, repeats, ours, f"RTF {ours / 2.1:.3f}")
        row(name, "limit of matrix products", limit, 15, ours, f"RTF {limit / 2.1:.3f}")
        for label, scan in (
            ("torch (readable)", selective_scan_torch),
            ("mambapy", scan_mambapy),
            ("mamba-ssm reference", selective_scan_ref),
        ):
            with with_scan(scan):
                assert torch.allclose(model(x), want, atol=1e-4)
                s = timed(lambda: model(x), slow_repeats)
            row(name, label, s, slow_repeats, ours, f"RTF {s / 2.1:.2f}")
        theirs = with_transformers(model)
        assert torch.allclose(theirs(x), want, atol=1e-4)
        s = timed(lambda: theirs(x), slow_repeats)
        row(name, "transformers MambaMixer", s, slow_repeats, ours, f"RTF {s / 2.1:.2f}")


def bench_training(repeats, slow_repeats):
    "Generator forward and backward, batch 4 x 1 s."
    torch.manual_seed(0)
    model, x, name = MambaMuse(), torch.rand(4, 1, 16_000) - 0.5, "generator step, batch 4 x 1 s"

    def step():
        model.zero_grad()
        model(x).abs().mean().backward()

    ours = timed(step, repeats)
    row(name, "numba", ours, repeats, ours, f"peak memory {peak_memory(step, 'cpu') / 1e6:,.0f} MB")
    with with_scan(scan_mambapy):
        row(
            name,
            "mambapy",
            timed(step, slow_repeats),
            slow_repeats,
            ours,
            f"peak memory {peak_memory(step, 'cpu') / 1e6:,.0f} MB",
        )


def bench_length(repeats):
    "Time per second of audio, from 2 s to 120 s."
    torch.manual_seed(0)
    model, base = MambaMuse().for_inference(), None
    for seconds in (2, 8, 30, 120):
        x = torch.rand(1, 1, seconds * 16_000) - 0.5
        with torch.inference_mode():
            per_second = timed(lambda: model(x), repeats) / seconds
        base = base or per_second
        row(
            "generator, per second of audio",
            f"{seconds} s",
            per_second,
            repeats,
            base,
            f"RTF {per_second:.3f}",
        )
        gc.collect()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default=str(Path(__file__).with_name("scan.csv")), help="the result file")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls; the median counts")
    parser.add_argument("--quick", action="store_true", help="2 calls of the slow variants instead of all")
    args = parser.parse_args()
    slow = 2 if args.quick else args.repeats
    about = machine()
    print(about)
    bench_first_call()
    bench_scan(args.repeats)
    bench_generator(args.repeats, slow)
    bench_training(args.repeats, slow)
    bench_length(args.repeats)
    with written_beside(args.out) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, [*ROWS[0], "cpu", "threads", "torch"])
        writer.writeheader()
        writer.writerows({**r, **{k: about[k] for k in ("cpu", "threads", "torch")}} for r in ROWS)


if __name__ == "__main__":
    main()
