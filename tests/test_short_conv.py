"""The compiled short convolution against PyTorch's in float64: shapes, strides, gradients, threads, and
PyTorch's own checks.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mambamuse.model.mamba import Mamba, short_conv
from mambamuse.model.short_conv import short_conv_numba, short_conv_op


def make(batch, time, d, seed=0):
    "Random `x`, `weight`, `bias`."
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=g) for shape in ((batch, time, d), (d, 1, 4), (d,))]


def readable(x, weight, bias):
    past = F.pad(x.transpose(1, 2), (3, 0))
    return F.silu(F.conv1d(past, weight, bias, groups=len(weight))).transpose(1, 2)


def results(function, inputs, dtype):
    "Output and gradients."
    inputs = [x.detach().to(dtype).requires_grad_() for x in inputs]
    y = function(*inputs)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return [y.detach(), *torch.autograd.grad(y, inputs, g)]


def check(inputs, allowed=1e-5):
    ours, exact = results(short_conv_numba, inputs, torch.float32), results(readable, inputs, torch.float64)
    for name, a, b in zip(("y", "x", "weight", "bias"), ours, exact):
        assert a.shape == b.shape and (a - b).abs().max() <= allowed * b.abs().max(), name


@pytest.mark.parametrize("batch,d", [(1, 1), (2, 16), (3, 20), (4, 64), (1, 70)])
@pytest.mark.parametrize("time", [1, 2, 3, 4, 31, 32, 33, 300])
def test_equal_to_the_readable_one(batch, d, time):
    check(make(batch, time, d))


def test_strides_do_not_matter():
    x, weight, bias = make(2, 50, 32)
    want = short_conv_numba(x, weight, bias)
    for other in (torch.cat([x, x], -1)[..., 32:], x.transpose(1, 2).contiguous().transpose(1, 2)):
        assert torch.equal(short_conv_numba(other, weight, bias), want)
        check([other, weight, bias])


def test_extremes():
    x, weight, bias = make(1, 40, 16)
    check([100 * x, weight, bias])  # the SiLU is 0 or the identity
    x[0, 20, 3] = np.nan
    y = short_conv_numba(x, weight, bias)
    assert y.isnan().nonzero()[:, 1:].tolist() == [[t, 3] for t in (20, 21, 22, 23)]


@pytest.mark.parametrize("batch,time", [(0, 10), (2, 0)])
def test_nothing_in_nothing_out(batch, time):
    inputs = [x.requires_grad_() for x in make(batch, time, 20)]
    y = short_conv_numba(*inputs)
    y.sum().backward()
    assert y.shape == inputs[0].shape and (inputs[1].grad == 0).all()


@pytest.mark.parametrize("batch,d", [(2, 20), (1, 16)])
def test_pytorch_accepts_the_operator(batch, d):
    torch.library.opcheck(short_conv_op, [x.requires_grad_() for x in make(batch, 40, d)])


def test_compile_sees_one_operator():
    inputs = make(2, 40, 20)
    compiled = torch.compile(short_conv_numba, fullgraph=True, backend="aot_eager")
    for a, b in zip(
        results(compiled, inputs, torch.float32), results(short_conv_numba, inputs, torch.float32)
    ):
        assert torch.equal(a, b)


def test_threads_do_not_matter():
    inputs, threads = make(3, 100, 70), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = results(short_conv_numba, inputs, torch.float32)
        torch.set_num_threads(2)
        two = results(short_conv_numba, inputs, torch.float32)
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, one, two))


def test_other_kernels_are_refused_and_left_to_the_readable_one():
    x, _, bias = make(1, 30, 16)
    weight = torch.randn(16, 1, 3)
    with pytest.raises(ValueError, match=r"weight has shape \(16, 1, 3\)"):
        short_conv_numba(x, weight, bias)
    assert short_conv(x, weight, bias).shape == x.shape


def test_a_block_with_and_without_it(monkeypatch):
    "Output and every gradient of a whole Mamba, fast and readable."
    torch.manual_seed(0)
    block, x = Mamba(32), torch.randn(2, 150, 32)

    def outcome():
        y = block(x)
        return [y, *torch.autograd.grad(y.square().mean(), list(block.parameters()))]

    fast = outcome()
    monkeypatch.setenv("MAMBAMUSE_SCAN", "torch")
    for a, b in zip(fast, outcome()):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
