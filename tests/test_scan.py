"""The scan and the block against mamba-ssm's own reference implementation."""

import random
from functools import partial

import mamba_ssm.modules.mamba_simple as mamba_simple
import pytest
import torch
from mamba_ssm.ops.selective_scan_interface import selective_scan_ref
from torch._subclasses.fake_tensor import FakeTensorMode

import mambamuse.model.scan
from mambamuse.model.mamba import Mamba
from mambamuse.model.scan import backend_for, selective_scan

TheirMamba = mamba_simple.Mamba
mamba_simple.selective_scan_fn = (
    selective_scan_ref  # without the CUDA extension the block has only its reference
)


def relative(x, y):
    return ((x - y).abs().max() / y.abs().max().clamp(min=1e-12)).item()


def arguments(rng, batch, d, n, time):
    "Float32 inputs as a Mamba block makes them; each optional one is there in half of the cases."
    u, delta, z = (torch.randn(batch, d, time) for _ in range(3))
    A, B, C = -torch.rand(d, n) * n, torch.randn(batch, n, time), torch.randn(batch, n, time)

    def maybe(x):
        return x if rng.random() < 0.5 else None

    soft = rng.random() < 0.7
    return dict(
        u=u,
        delta=delta if soft else delta.abs(),
        A=A,
        B=B,
        C=C,
        D=maybe(torch.randn(d)),
        z=maybe(z),
        delta_bias=maybe(torch.rand(d)),
        delta_softplus=soft,
    )


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("seed", range(24))
def test_parity_with_mamba_ssm(seed, backend):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    kw = arguments(
        rng,
        rng.randint(1, 5),
        rng.choice([1, 3, 16, 24, 40]),
        rng.choice([1, 4, 16, 17]),
        rng.choice([1, 2, 31, 64, 65, 200, 333]),
    )
    names = [k for k, v in kw.items() if isinstance(v, torch.Tensor)]
    results = []
    for scan in (partial(selective_scan, backend=backend), selective_scan_ref):
        x = {k: v.clone().requires_grad_() if k in names else v for k, v in kw.items()}
        y, state = scan(**x, return_last_state=True)
        loss = y.cos().sum() + (state**2).sum()
        results.append((y, state, dict(zip(names, torch.autograd.grad(loss, [x[k] for k in names])))))
    (y, state, grads), (y_ref, state_ref, grads_ref) = results
    assert relative(y, y_ref) <= 1e-4 and relative(state, state_ref) <= 1e-4
    for name in names:
        assert relative(grads[name], grads_ref[name]) <= 1e-4, name


@pytest.mark.parametrize("d_model,time", [(16, 50), (32, 129), (64, 20), (20, 77)])
def test_block_parity_with_mamba_ssm(d_model, time):
    ours, theirs = Mamba(d_model), TheirMamba(d_model, use_fast_path=False)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, time, d_model)
    assert relative(ours(x), theirs(x)) <= 1e-4


def test_initial_values_are_those_of_mamba_ssm():
    "Same law: identical constants, and moments of the random ones over many blocks."
    ours, theirs = (
        [make(64) for _ in range(40)] for make in (Mamba, lambda d: TheirMamba(d, use_fast_path=False))
    )
    assert torch.allclose(ours[0].A_log, theirs[0].A_log) and torch.equal(ours[0].D, theirs[0].D)
    for name in (
        "dt_proj.bias",
        "dt_proj.weight",
        "in_proj.weight",
        "x_proj.weight",
        "out_proj.weight",
        "conv1d.weight",
        "conv1d.bias",
    ):
        a, b = (torch.stack([m.get_parameter(name).detach() for m in blocks]) for blocks in (ours, theirs))
        assert abs(a.std() / b.std() - 1) < 0.05, name
        assert abs(a.mean() - b.mean()) < 0.1 * b.std(), name


def test_mamba_ssm_backend_passes_its_arguments_on(monkeypatch):
    """The CUDA function has the reference's signature; here the reference stands in for it. With an initial
    state the readable scan takes over.
    """
    import mamba_ssm.ops.selective_scan_interface as interface

    monkeypatch.setattr(interface, "selective_scan_fn", selective_scan_ref)
    kw = arguments(random.Random(3), 2, 5, 4, 30)
    (y, state), (want, last) = (
        selective_scan(**kw, return_last_state=True, backend=b) for b in ("mamba_ssm", "torch")
    )
    assert relative(y, want) <= 1e-5 and relative(state, last) <= 1e-5
    h = torch.randn(2, 5, 4)
    assert torch.equal(
        selective_scan(**kw, initial_state=h, backend="mamba_ssm"),
        selective_scan(**kw, initial_state=h, backend="torch"),
    )


@pytest.mark.parametrize(
    "there,dtype,state,name",
    [
        (("mamba_ssm", "triton"), torch.float32, False, "mamba_ssm"),
        (("mamba_ssm", "triton"), torch.float32, True, "triton"),
        (("mamba_ssm",), torch.bfloat16, True, "torch"),
        (("triton",), torch.bfloat16, False, "triton"),
        (("triton",), torch.float64, False, "torch"),
        ((), torch.float32, False, "torch"),
    ],
)
def test_choice_on_cuda(there, dtype, state, name, monkeypatch):
    "The rule, on tensors without memory: the choice looks at types and devices only."
    monkeypatch.delenv("MAMBAMUSE_SCAN", raising=False)
    monkeypatch.setattr(
        mambamuse.model.scan,
        "importable",
        lambda module, _: {"selective_scan_cuda": "mamba_ssm"}.get(module, module) in there,
    )
    with FakeTensorMode():
        u, A = torch.empty(1, 2, 3, dtype=dtype, device="cuda"), torch.empty(2, 3, device="cuda")
    assert backend_for(u, A, None, initial_state=A if state else None) == name


def test_environment_overrules_the_choice_and_an_argument_the_environment(monkeypatch):
    kw = arguments(random.Random(3), 2, 5, 4, 30)
    monkeypatch.setenv("MAMBAMUSE_SCAN", "torch")
    assert backend_for(kw["u"]) == "torch" and torch.equal(
        selective_scan(**kw), selective_scan(**kw, backend="torch")
    )
    monkeypatch.setenv("MAMBAMUSE_SCAN", "fastest")
    with pytest.raises(ValueError, match="'fastest' .*, expected numba, triton, mamba_ssm or torch"):
        selective_scan(**kw)
    numba = selective_scan(**kw, backend="numba")
    monkeypatch.delenv("MAMBAMUSE_SCAN")
    assert backend_for(kw["u"]) == "numba" and torch.equal(selective_scan(**kw), numba)


def test_compile_sees_through_the_choice():
    "Also through the question what can be imported, which only CUDA tensors raise."
    kw = arguments(random.Random(3), 2, 5, 4, 30)
    assert torch.equal(
        torch.compile(selective_scan, fullgraph=True, backend="aot_eager")(**kw), selective_scan(**kw)
    )

    def ask(x):
        return x * 2 if mambamuse.model.scan.importable("no_such_module", "fwd") else x * 3

    assert torch.compile(ask, fullgraph=True, backend="aot_eager")(torch.ones(1)) == 3
