"""The compiled scan against the readable one in float64: shapes, extremes, gradients, threads, and PyTorch's
own checks.
"""

import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit

from mambamuse.model import scan_kernel
from mambamuse.model.scan_kernel import exp2, fold, load, log1p, sigmoid, store, unfold
from mambamuse.model.scan_numba import scan_op, selective_scan_numba
from mambamuse.model.scan_reference import selective_scan_torch

NAMES = "u delta A B C D z delta_bias initial_state".split()
OPTIONAL = ("D", "z", "delta_bias", "initial_state")


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
    return {k: v for k, v in x.items() if k in NAMES[:5] or k in optional}


def results(scan, x, soft, dtype):
    "Output, last state and all gradients, by name."
    x = {k: v.to(dtype).clone().requires_grad_() for k, v in x.items()}
    y, last = scan(**x, delta_softplus=soft, return_last_state=True)
    g = torch.Generator().manual_seed(1)
    loss = sum((out * torch.randn(out.shape, generator=g).to(dtype)).sum() for out in (y, last))
    grads = torch.autograd.grad(loss, list(x.values()), allow_unused=True, materialize_grads=True)
    return dict(out=y.detach(), last=last.detach(), **{f"g_{k}": v for k, v in zip(x, grads)})


def errors(x, soft, scan=selective_scan_numba):
    "Largest error of each result, relative to the largest value."
    ours, exact = results(scan, x, soft, torch.float32), results(selective_scan_torch, x, soft, torch.float64)
    assert all(ours[k].shape == exact[k].shape for k in exact)
    return {
        k: ((ours[k].double() - v).abs().max() / v.abs().max().clamp(min=1e-30)).item()
        for k, v in exact.items()
        if v.numel()
    }


def check(x, soft, forward=1e-5, backward=1e-4):
    for name, error in errors(x, soft).items():
        assert error <= (backward if name.startswith("g_") else forward), (name, error)


@pytest.mark.parametrize("seed", range(40))
def test_random_shapes(seed):
    rng = random.Random(seed)
    batch, d, n = rng.randint(1, 5), rng.randint(1, 70), rng.choice([1, 3, 8, 16, 17])
    time = rng.choice([1, 2, 63, 64, 65, rng.randint(1, 300), rng.randint(300, 3_000)])
    check(make(batch, d, n, time, True, [o for o in OPTIONAL if rng.random() < 0.6], seed), True)


@pytest.mark.parametrize("optional", [c for k in range(5) for c in itertools.combinations(OPTIONAL, k)])
@pytest.mark.parametrize("soft", [False, True])
def test_every_combination_of_optional_arguments(optional, soft):
    check(make(2, 20, 5, 150, soft, optional), soft)


def test_a_long_signal():
    check(make(1, 16, 16, 5_000), True)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("low,high", [(3, 4), (-6, -6), (-6, 4)])
def test_extreme_steps(low, high, soft):
    "Steps from a millionth to ten thousand."
    x = make(2, 24, 16, 1_000, soft, ("D", "z"))
    step = 10 ** (
        low + (high - low) * torch.rand(x["delta"].shape, generator=torch.Generator().manual_seed(1))
    )
    x["delta"] = torch.where(step > 20, step, step.double().expm1().log().float()) if soft else step
    # With one tiny step for all samples, exp(step*A) next to 1 rounds the same way each time, in any float32
    # arithmetic.
    rounding = errors(x, soft, selective_scan_torch)["last"]
    check(x, soft, forward=max(1e-5, 1.5 * rounding))


def test_cut_anywhere():
    x = make(2, 40, 16, 300)
    whole, end = selective_scan_numba(**x, delta_softplus=True, return_last_state=True)

    def piece(s):
        return {k: v[..., s] if k in ("u", "delta", "B", "C", "z") else v for k, v in x.items()}

    for cut in (1, 31, 64, 65, 128, 200, 299):
        left, state = selective_scan_numba(
            **piece(slice(0, cut)), delta_softplus=True, return_last_state=True
        )
        right, state = selective_scan_numba(
            **{**piece(slice(cut, None)), "initial_state": state}, delta_softplus=True, return_last_state=True
        )
        assert torch.equal(torch.cat([left, right], -1), whole) and torch.equal(state, end)


def test_strides_do_not_matter():
    x = make(3, 33, 7, 130)
    want = selective_scan_numba(**x, delta_softplus=True)

    def turned(v):
        return v.transpose(-1, -2).contiguous().transpose(-1, -2) if v.ndim > 1 else v

    for change in (turned, lambda v: torch.stack([v, v], -1)[..., 1]):
        y = {k: change(v) for k, v in x.items()}
        assert torch.equal(selective_scan_numba(**y, delta_softplus=True), want)
        check(y, True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_that_of_its_inputs(dtype):
    x = {k: v.to(dtype) for k, v in make(2, 5, 4, 40).items()}
    y, last = selective_scan_numba(**x, delta_softplus=True, return_last_state=True)
    singles = {k: v.float() for k, v in x.items()}
    want, want_last = selective_scan_numba(**singles, delta_softplus=True, return_last_state=True)
    assert y.dtype == dtype and last.dtype == torch.float32
    assert torch.equal(y, want.to(dtype)) and torch.equal(last, want_last)
    ours, theirs = (results(scan, x, True, dtype) for scan in (selective_scan_numba, selective_scan_torch))
    for name, ours in ours.items():
        assert torch.allclose(ours.float(), theirs[name].float(), rtol=0.05, atol=0.05), name


def test_double_precision_is_refused():
    x = make(1, 2, 3, 10)
    with pytest.raises(
        ValueError, match="expected float32, bfloat16 or float16 on the CPU, got torch.float64"
    ):
        selective_scan_numba(**x | dict(u=x["u"].double()))


def test_inputs_are_left_alone():
    for d, n in ((16, 1), (32, 16)):
        x = make(1, d, n, 70)
        before, g_last = {k: v.clone() for k, v in x.items()}, torch.randn(1, d, n)
        g_before = g_last.clone()
        out, last = selective_scan_numba(
            **{k: v.requires_grad_() for k, v in x.items()}, delta_softplus=True, return_last_state=True
        )
        torch.autograd.backward([out, last], [torch.ones_like(out), g_last])
        assert all(torch.equal(before[k], x[k]) for k in x) and torch.equal(g_last, g_before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity_propagate(name, bad):
    x = make(1, 20, 4, 100)
    x[name].flatten()[37 % x[name].numel()] = bad
    ours, exact = (
        selective_scan_numba(**x, delta_softplus=True),
        selective_scan_torch(**{k: v.double() for k, v in x.items()}, delta_softplus=True),
    )
    assert torch.equal(ours.isfinite(), exact.isfinite()) and (bad == float("inf") or ours.isnan().any())


@pytest.mark.parametrize("batch,time", [(0, 10), (2, 0)])
def test_nothing_in_nothing_out(batch, time):
    x = {k: v.requires_grad_() for k, v in make(batch, 20, 4, time).items()}
    y, last = selective_scan_numba(**x, delta_softplus=True, return_last_state=True)
    assert y.shape == x["u"].shape and torch.equal(last, x["initial_state"])
    (y.sum() + last.sum()).backward()
    assert (x["initial_state"].grad == 1).all() and (x["A"].grad == 0).all()


@pytest.mark.parametrize("optional", [(), OPTIONAL])
@pytest.mark.parametrize("batch,d", [(2, 20), (1, 16)])
def test_pytorch_accepts_the_operator(optional, batch, d):
    x = {k: v.requires_grad_() for k, v in make(batch, d, 4, 100, optional=optional).items()}
    torch.library.opcheck(scan_op, (*(x.get(k) for k in NAMES), True))


def test_compile_and_export_see_one_operator():
    x = make(2, 20, 4, 100)

    def f(**x):
        return selective_scan_numba(**x, delta_softplus=True) * 2

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    a, b = ({k: v.clone().requires_grad_() for k, v in x.items()} for _ in "ab")
    compiled(**a).square().sum().backward()
    f(**b).square().sum().backward()
    for k in a:
        torch.testing.assert_close(a[k].grad, b[k].grad)

    class Module(torch.nn.Module):
        def forward(self, **x):
            return f(**x)

    program = torch.export.export(Module(), (), x)
    assert [n.target for n in program.graph.nodes].count(torch.ops.mambamuse.scan_numba.default) == 1
    assert torch.equal(program.module()(**x), f(**x))


def test_several_threads_at_once():
    x = make(2, 70, 16, 500)
    want, got = selective_scan_numba(**x, delta_softplus=True), [None] * 6

    def work(i):
        for _ in range(20):
            got[i] = selective_scan_numba(**x, delta_softplus=True)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(torch.equal(g, want) for g in got)


def test_wrong_types_and_shapes_are_named():
    x = make(1, 4, 2, 5)
    with pytest.raises(ValueError, match="float32"):
        selective_scan_numba(**{k: v.double() for k, v in x.items()})
    with pytest.raises(ValueError, match="B has shape"):
        selective_scan_numba(**{**x, "B": x["B"][:, :1]})


@njit
def map_exp2(x, y):
    for i in range(0, len(x), 16):
        store(y, (i,), exp2(load(x, (i,))))


@njit
def map_log1p(x, y):
    for i in range(0, len(x), 16):
        store(y, (i,), log1p(load(x, (i,))))


@pytest.mark.parametrize(
    "ours,exact,low,high",
    [(map_exp2, np.exp2, -126, 127.4), (map_exp2, np.exp2, -2, 2), (map_log1p, np.log1p, 1e-30, 1)],
)
def test_elementary_functions(ours, exact, low, high):
    x = np.linspace(low, high, 1 << 20).astype(np.float32)
    y = np.empty_like(x)
    ours(x, y)
    assert np.abs(y / exact(x.astype(np.float64)) - 1).max() < 2e-7


@njit
def map_sigmoid(x, y):
    for i in range(0, len(x), 16):
        store(y, (i,), sigmoid(load(x, (i,))))


def test_sigmoid():
    "Close to the true one as long as that is a normal number, and neither 0 nor NaN beyond."
    x = np.linspace(-87, 87, 1 << 20).astype(np.float32)
    y = np.empty_like(x)
    map_sigmoid(x, y)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    near = abs(x) < 10
    assert np.abs(y / exact - 1)[near].max() < 1e-6 and np.abs(y / exact - 1).max() < 1e-5
    x[:4] = -1e30, 1e30, -np.inf, np.nan
    map_sigmoid(x[:16], y[:16])
    assert 0 < y[0] < 2e-38 and y[1] == 1 and 0 < y[2] < 2e-38 and np.isnan(y[3])


@njit
def sums_of_four(x, y, z):
    four = fold(fold(load(x, (0,)), load(x, (16,))), fold(load(x, (32,)), load(x, (48,))))
    unfold(y, (0,), z, (0,), four)


def test_four_sums_at_once():
    y, z = np.zeros(3, np.float32), np.zeros(3, np.float32)
    sums_of_four(np.arange(64, dtype=np.float32), y, z)
    assert y.tolist() == [120, 376, 0] and z.tolist() == [632, 888, 0]  # 0 + ... + 15, and 256 more each time


def test_exp2_at_its_ends():
    x, y = np.zeros(16, np.float32), np.empty(16, np.float32)
    x[:6] = 0, -1e30, -130, np.nan, 1e30, 129
    map_exp2(x, y)
    assert (
        y[:2].tolist() == [1, 0]
        and 0 <= y[2] <= np.finfo(np.float32).tiny
        and np.isnan(y[3])
        and np.isinf(y[4:6]).all()
    )


def test_the_same_without_avx512(tmp_path):
    "On another processor, which this process pretends to be, powers of two are made from bits."
    code = """
import sys; sys.path.insert(0, sys.argv[1])
import numba; numba.njit(lambda: 0)()  # numba itself goes on as before
import llvmlite.binding; llvmlite.binding.get_host_cpu_features = dict
import test_scan_numba as t, mambamuse.model.scan_kernel as s
assert not s.AVX512
for soft in (False, True): t.check(t.make(2, 20, 5, 150, soft), soft)
t.test_exp2_at_its_ends(); t.test_elementary_functions(t.map_exp2, t.np.exp2, -126, 127.4)
"""
    env = os.environ | dict(NUMBA_CACHE_DIR=str(tmp_path))  # kernels of their own
    run = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


SCAN = """
import sys, torch
from mambamuse.model.scan_numba import selective_scan_numba
x = torch.arange(1, 17.).repeat(1, 5, 1).transpose(1, 2)/16
y = selective_scan_numba(x, x, -torch.ones(16, 2), x[:, :2], x[:, :2])
print(float(y.sum()))
"""


def scan_in(package, home):
    """What a fresh process says that scans with a copy of the package: exit code, standard output, standard
    error.
    """
    settings = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    settings |= dict(PYTHONPATH=str(package), HOME=str(home), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        [sys.executable, "-c", SCAN], cwd=package, env=settings, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_a_cache_that_cannot_be_written_or_is_damaged_ends_nothing(tmp_path):
    """Nowhere to keep it: compiled, and said so. Kept, then cut or overwritten: compiled anew. Always the
    same sum.
    """
    source = Path(scan_kernel.__file__).parents[1]
    shutil.copytree(
        source,
        tmp_path / "mambamuse",
        ignore=lambda folder, names: [
            name for name in names if "." in name and not name.endswith(".py") or name == "__pycache__"
        ],
    )
    pycache = tmp_path / "mambamuse" / "model" / "__pycache__"
    pycache.touch()  # a file in the place of the folder stops root, too
    failed, first, said = scan_in(tmp_path, "/dev/null")
    assert (
        not failed
        and said.count("not kept: NUMBA_CACHE_DIR can name a folder for it") == 1
        and said.count("\n") == 1
    ), said
    pycache.unlink()
    failed, kept, said = scan_in(tmp_path, "/dev/null")
    assert not failed and kept == first and "kept for next time" in said, said
    assert scan_in(tmp_path, "/dev/null") == (0, first, "")
    for pattern in ("*.nbi", "*.nbc"):
        for file in pycache.glob(pattern):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        failed, again, said = scan_in(tmp_path, "/dev/null")
        assert not failed and again == first and "kept for next time" in said and said.count("\n") == 1, said
