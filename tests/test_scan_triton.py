"""The Triton kernels against the readable scan in float64: on a GPU if there is one, else under Triton's
interpreter on the CPU; and compiled for GPUs that need not be there.

conftest.py asks for the interpreter before anything imports triton. Nothing else in these tests minds: on a
CPU, torch.compile does without triton.
"""

import inspect
import os
import re
import subprocess
import sys
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="triton comes with PyTorch on Linux only")
from conftest import ROOT
from triton.runtime import interpreter

from mambamuse.model import scan_kernel, scan_triton
from mambamuse.model.scan import importable, selective_scan
from mambamuse.model.scan_reference import selective_scan_torch
from mambamuse.model.scan_triton import scan_backward_op, scan_op, selective_scan_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
REAL_CHUNK = scan_triton.CHUNK
NAMES = "u delta A B C D z delta_bias initial_state".split()
OPTIONAL = ("D", "z", "delta_bias", "initial_state")
WEIGHTS = ("A", "D", "delta_bias", "initial_state")  # float32 also where signals are not


def scan_in_rounds(self, inputs):
    """What `generic_scan` computes, which calls the combining function once per number; this one
    `log2(samples)` times.
    """
    x, reach = [np.moveaxis(v.handle.data, self.axis, 0) for v in inputs], 1

    def tensors(values):
        return [self.to_tensor(v, i.dtype) for v, i in zip(values, inputs)]

    while reach < len(x[0]):
        later = self.combine_fn.fn(*tensors(np.roll(v, reach, 0) for v in x), *tensors(x))
        x = [np.concatenate([v[:reach], l.handle.data[reach:]]) for v, l in zip(x, later)]  # noqa: E741
        reach *= 2
    return tensors(np.moveaxis(v, 0, self.axis) for v in x)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "Short chunks, so that short signals cross their boundaries, and a faster interpreter."
    monkeypatch.setattr(interpreter.ScanOps, "generic_scan", scan_in_rounds)
    monkeypatch.setattr(scan_triton, "CHUNK", 16)
    monkeypatch.setattr(scan_triton, "JOIN", 4)


def make(batch, d, n, time, soft=True, optional=OPTIONAL, seed=0):
    "Random arguments by name; without softplus, steps are positive."
    g = torch.Generator().manual_seed(seed)

    def r(*shape):
        return torch.randn(*shape, generator=g)

    x = dict(
        u=r(batch, d, time),
        delta=r(batch, d, time),
        A=-4 * torch.rand(d, n, generator=g) - 0.05,
        B=r(batch, n, time),
        C=r(batch, n, time),
        D=r(d),
        z=2 * r(batch, d, time),
        delta_bias=r(d),
        initial_state=r(batch, d, n),
    )
    if not soft:
        x |= dict(delta=0.2 * x["delta"].abs(), delta_bias=0.1 * x["delta_bias"].abs())
    return {k: v.to(DEVICE) for k, v in x.items() if k in NAMES[:5] or k in optional}


def results(scan, x, soft, dtype=None):
    "Output, last state and all gradients, by name."
    x = {k: v.detach().to(dtype or v.dtype).requires_grad_() for k, v in x.items()}
    y, last = scan(**x, delta_softplus=soft, return_last_state=True)
    g = torch.Generator().manual_seed(1)
    loss = sum((out * torch.randn(out.shape, generator=g).to(out)).sum() for out in (y, last))
    grads = torch.autograd.grad(loss, list(x.values()), allow_unused=True, materialize_grads=True)
    return dict(out=y.detach(), last=last.detach(), **{f"g_{k}": v for k, v in zip(x, grads)})


def errors(x, soft, scan):
    "Largest error of each result, relative to the largest value."
    ours, exact = results(scan, x, soft), results(selective_scan_torch, x, soft, torch.float64)
    assert all(ours[k].shape == exact[k].shape for k in exact)
    return {
        k: ((ours[k].double() - v).abs().max() / v.abs().max().clamp(min=1e-30)).item()
        for k, v in exact.items()
        if v.numel()
    }


def check(x, soft, forward=1e-5, backward=1e-4, scan=selective_scan_triton):
    for name, error in errors(x, soft, scan).items():
        assert error <= (backward if name.startswith("g_") else forward), (name, error)


@pytest.mark.parametrize(
    "batch,d,n,time,soft",
    [
        (1, 1, 1, 1, True),
        (1, 1, 4, 100, False),
        (1, 5, 4, 17, True),
        (3, 2, 16, 33, True),
        (1, 2, 17, 65, False),
        (2, 1, 17, 16, True),
        (1, 3, 1, 40, False),
        (2, 2, 16, 15, False),
    ],
)
def test_shapes(batch, d, n, time, soft):
    check(make(batch, d, n, time, soft, seed=batch + d + n), soft)


@pytest.mark.parametrize(
    "soft,optional",
    list(enumerate([(), ("D",), ("z",), ("delta_bias",), ("initial_state",), ("D", "z"), OPTIONAL[:3]])),
)
def test_optional_arguments(soft, optional):
    check(make(1, 2, 5, 20, soft % 2 == 1, optional), soft % 2 == 1)


def test_groups_of_channels(monkeypatch):
    "One program for all channels, and a last group that is not full."
    for programs in (1, 9):
        monkeypatch.setattr(scan_triton, "PROGRAMS", programs)
        check(make(1, 7, 4, 20), True)


def test_chunks_of_the_real_size(monkeypatch):
    monkeypatch.setattr(scan_triton, "CHUNK", REAL_CHUNK)
    check(make(1, 2, 16, 3 * REAL_CHUNK - 1), True)


@pytest.mark.parametrize("low,high", [(3, 4), (-6, -6), (-6, 4)])
@pytest.mark.parametrize("soft", [False, True])
def test_extreme_steps(low, high, soft):
    "Steps from a millionth to ten thousand."
    x = make(1, 2, 16, 70, soft, ("D", "z"))
    step = 10 ** (
        low + (high - low) * torch.rand(x["delta"].shape, generator=torch.Generator().manual_seed(1))
    ).to(DEVICE)
    x["delta"] = torch.where(step > 20, step, step.double().expm1().log().float()) if soft else step
    check(x, soft)


def test_cut_anywhere():
    x = make(1, 2, 5, 70)
    whole, end = selective_scan_triton(**x, delta_softplus=True, return_last_state=True)

    def piece(s):
        return {k: v[..., s] if k in ("u", "delta", "B", "C", "z") else v for k, v in x.items()}

    for cut in (1, 16, 17, 69):
        left, state = selective_scan_triton(
            **piece(slice(0, cut)), delta_softplus=True, return_last_state=True
        )
        right, state = selective_scan_triton(
            **{**piece(slice(cut, None)), "initial_state": state}, delta_softplus=True, return_last_state=True
        )
        torch.testing.assert_close(torch.cat([left, right], -1), whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(state, end, rtol=1e-5, atol=1e-5)


def test_strides_do_not_matter():
    x = make(2, 2, 5, 18)
    want = selective_scan_triton(**x, delta_softplus=True)

    def channels_last(v):
        return v.transpose(-1, -2).contiguous().transpose(-1, -2) if v.ndim > 1 else v

    for change in (
        channels_last,
        lambda v: torch.stack([v, v], -1)[..., 1],
        lambda v: torch.cat([v, v])[len(v) :],
    ):
        y = {k: change(v) for k, v in x.items()}
        assert torch.equal(selective_scan_triton(**y, delta_softplus=True), want)
        check(y, True)
    assert (
        selective_scan_triton(**{k: channels_last(v) for k, v in x.items()}, delta_softplus=True).stride(1)
        == 1
    )
    one = {**x, "u": x["u"][:, :1].expand(-1, 2, -1)}
    torch.testing.assert_close(
        selective_scan_triton(**one, delta_softplus=True),
        selective_scan_torch(**one, delta_softplus=True),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    x = make(1, 2, 16, 40)
    x = {k: v if k in WEIGHTS else v.to(dtype) for k, v in x.items()}
    ours = results(selective_scan_triton, x, True)
    assert ours["out"].dtype == dtype and ours["last"].dtype == torch.float32
    assert all(ours[f"g_{k}"].dtype == v.dtype for k, v in x.items())
    check(x, True, 2e-2, 2e-2)


@pytest.mark.parametrize("name", NAMES)
def test_nan_propagates(name):
    x = make(1, 2, 3, 34)
    x[name].flatten()[20 % x[name].numel()] = float("nan")
    ours, exact = (results(f, x, True) for f in (selective_scan_triton, selective_scan_torch))
    assert ours["out"].isnan().any()
    for (
        k
    ) in ours:  # a NaN in A reaches a few samples more: NaN * 0 where a tile extends over the end of a chunk
        assert (ours[k].isnan() | ~exact[k].isnan()).all() and (
            name == "A" or torch.equal(ours[k].isnan(), exact[k].isnan())
        ), k


@pytest.mark.parametrize("batch,d,time", [(0, 4, 10), (2, 4, 0), (2, 0, 10)])
def test_nothing_in_nothing_out(batch, d, time):
    x = {k: v.requires_grad_() for k, v in make(batch, d, 4, time).items()}
    y, last = selective_scan_triton(**x, delta_softplus=True, return_last_state=True)
    assert y.shape == x["u"].shape and torch.equal(last, x["initial_state"])
    (y.sum() + last.sum()).backward()
    assert (x["initial_state"].grad == 1).all() and (x["A"].grad == 0).all()


def test_inputs_are_left_alone_and_calls_repeat():
    x = make(1, 3, 4, 20)
    before = {k: v.clone() for k, v in x.items()}
    a, b = results(selective_scan_triton, x, True), results(selective_scan_triton, x, True)
    assert all(torch.equal(before[k], x[k]) for k in x) and all(torch.equal(a[k], b[k]) for k in a)


def test_only_the_last_state():
    x = make(1, 2, 4, 40)
    grads = []
    for f in (selective_scan_triton, selective_scan_torch):
        y = {k: v.clone().requires_grad_() for k, v in x.items()}
        f(**y, delta_softplus=True, return_last_state=True)[1].square().sum().backward()
        grads.append([y[k].grad for k in ("u", "delta", "A", "B", "delta_bias", "initial_state")])
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optional", [(), OPTIONAL])
@pytest.mark.parametrize("turn", [False, True])
def test_pytorch_accepts_the_operators(optional, turn):
    x = make(1, 2, 4, 20, optional=optional)
    if turn:
        x = {k: v.transpose(1, 2).contiguous().transpose(1, 2) if v.ndim == 3 else v for k, v in x.items()}
    args = [x.get(k) for k in NAMES]
    _, last, marks = torch.ops.mambamuse.scan_triton(*args, True)
    torch.library.opcheck(
        scan_backward_op,
        (x["u"], last, marks, *args[:-1], True),
        test_utils=("test_schema", "test_faketensor"),
    )
    torch.library.opcheck(scan_op, (*(a if a is None else a.requires_grad_() for a in args), True))


def test_compile_sees_one_operator():
    x = make(1, 2, 4, 20)

    def f(**x):
        return selective_scan_triton(**x, delta_softplus=True) * 2

    a, b = ({k: v.clone().requires_grad_() for k, v in x.items()} for _ in "ab")
    torch.compile(f, fullgraph=True, backend="aot_eager")(**a).square().sum().backward()
    f(**b).square().sum().backward()
    for k in a:
        torch.testing.assert_close(a[k].grad, b[k].grad)


def test_wrong_arguments():
    x = make(1, 2, 3, 4)
    with pytest.raises(ValueError, match="float64"):
        selective_scan_triton(**{k: v.double() for k, v in x.items()})
    with pytest.raises(ValueError, match="z has shape"):
        selective_scan_triton(**{**x, "z": x["z"][:, :1]})


def test_through_the_one_to_call():
    x = make(1, 2, 4, 20)
    y, last = selective_scan(**x, delta_softplus=True, return_last_state=True, backend="triton")
    want, end = selective_scan(**x, delta_softplus=True, return_last_state=True, backend="torch")
    torch.testing.assert_close((y, last), (want, end), rtol=1e-5, atol=1e-5)


def test_one_polynomial():
    "The two kernels spell out the same one."
    ours, theirs = (
        re.findall(r"\d\.\d{6,}", inspect.getsource(f))
        for f in (scan_triton.log1p.fn, scan_kernel.log1p.py_func)
    )
    assert len(ours) == 9 and ours == theirs


IMPORTS = """
import sys, torch
sys.modules["triton"] = None  # as where it is not installed
from mambamuse.model.scan import importable, selective_scan
args = *torch.rand(2, 1, 2, 30), -torch.rand(2, 3), *torch.rand(2, 1, 3, 30)
assert torch.allclose(selective_scan(*args), selective_scan(*args, backend="torch"), atol=1e-5) and not importable("triton", "jit")
for name in [name for name in sys.modules if name.split(".")[0] == "triton"]: del sys.modules[name]
import mambamuse.model.scan_triton
try: selective_scan(*args, backend="triton")
except ValueError as error: print(error)
"""


def test_imports_without_triton_and_without_a_gpu():
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", IMPORTS], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "expected float32, bfloat16 or float16 on one GPU, got torch.float32 on cpu\n", (
        done.stderr
    )


# ---------------------------------------------------------------- compiled, not run

COMPILE = """
import re, subprocess, torch, triton
import mambamuse.model.scan_triton as S
from triton.backends.compiler import GPUTarget
class Absent:
    "A GPU that is not there: enough for `warmup`, which compiles down to machine code."
    get_current_target = lambda self: GPUTarget("cuda", {capability}, 32)
    get_current_device = lambda self: 0
    get_current_stream = lambda self, device: 0
triton.runtime.driver.set_active(Absent())
def compiled(kernel, grid, *args, **kw):
    open("cubin", "wb").write(kernel.warmup(*args, grid=grid, **kw).asm["cubin"])
    usage = subprocess.run([triton.knobs.nvidia.cuobjdump.path, "-res-usage", "cubin"], capture_output=True, text=True).stdout
    print(kernel.__name__, *re.search(r"REG:(\\d+) STACK:(\\d+)", usage).groups())
S.ends_kernel.__class__.__getitem__ = lambda kernel, grid: lambda *args, **kw: compiled(kernel, grid, *args, **kw)
def compile_all(batch, d, n, time, dtype, full):
    "All kernels, as the model calls them (channels adjacent in memory, all optional arguments) if `full`, else the other way."
    r = lambda *s: torch.empty(s[0], s[2], s[1], dtype=dtype).transpose(1, 2) if full else torch.empty(s, dtype=dtype)
    f = lambda *s: torch.empty(s) if full else None
    args = r(batch, d, time), r(batch, d, time), torch.empty(d, n), r(batch, n, time), r(batch, n, time), f(d), r(batch, d, time) if full else None, f(d)
    out, last, marks = S.scan_op._init_fn(*args, f(batch, d, n), full)
    S.scan_backward_op._init_fn(out, last, marks, *args, full)
compile_all(2, 64, 16, 1008, torch.float32, True)
compile_all(2, 64, 16, 1008, torch.bfloat16, True)
compile_all(1, 1, 1, 1, torch.float16, False)
"""


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_a_gpu_and_fit_its_registers(capability, tmp_path):
    """Triton brings its compiler and NVIDIA's assembler along, so this needs no GPU. No stack: nothing is
    spilled to memory.
    """
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | dict(
        TRITON_CACHE_DIR=str(tmp_path), PYTHONPATH=str(ROOT)
    )
    done = subprocess.run(
        [sys.executable, "-c", COMPILE.format(capability=capability)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert len(kernels) == 6 * 3, done.stderr
    assert all(int(registers) <= 255 and stack == "0" for _, registers, stack in kernels), done.stdout


# ---------------------------------------------------------------- on a GPU


def scans_of_the_gpu():
    "mamba-ssm's kernel, too, if it is there: it takes no initial state."
    yield selective_scan_triton, OPTIONAL
    if importable("selective_scan_cuda", "fwd"):
        yield partial(selective_scan, backend="mamba_ssm"), OPTIONAL[:3]


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA GPU")
@pytest.mark.parametrize(
    "dtype,limit", [(torch.float32, 1e-4), (torch.bfloat16, 2e-2), (torch.float16, 2e-2)]
)
def test_on_a_gpu(dtype, limit, monkeypatch):
    monkeypatch.setattr(scan_triton, "CHUNK", REAL_CHUNK)
    for (batch, d, time), (scan, optional) in product(
        [(1, 7, 65), (2, 40, 1_000), (3, 64, 16_800), (1, 512, 2_100)], scans_of_the_gpu()
    ):
        x = {
            k: v if k in WEIGHTS else v.to(dtype) for k, v in make(batch, d, 16, time, True, optional).items()
        }
        check(x, True, limit, limit, scan)


@pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU")
def test_the_benchmark_says_what_it_needs():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", "--out", "/nowhere/gpu.csv"],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 2
        and done.stdout == ""
        and done.stderr.count("\n") == 1
        and "needs a CUDA GPU" in done.stderr
    )
