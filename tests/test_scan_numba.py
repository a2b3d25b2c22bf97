"Run: /work/main/.venv/bin/python -m pytest -q test_numba_scan.py"
import itertools, random, threading
import pytest, torch
from mambamuse.scan import selective_scan_torch as selective_scan
from mambamuse.scan_numba import selective_scan_numba, scan_op, exp2, log1p, load, store, LANES
import numba, numpy as np

NAMES = "u delta A B C D z delta_bias initial_state".split()

def make(batch, d, n, L, soft=True, optional=("D", "z", "delta_bias", "initial_state"), seed=0, delta=None):
    g = torch.Generator().manual_seed(seed)
    N = lambda *s: torch.randn(*s, generator=g)
    x = dict(u=N(batch, d, L), delta=N(batch, d, L), A=-torch.rand(d, n, generator=g)*4 - .05, B=N(batch, n, L), C=N(batch, n, L),
             D=N(d), z=N(batch, d, L)*2, delta_bias=N(d), initial_state=N(batch, d, n))
    if not soft: x["delta"] = x["delta"].abs()*.2; x["delta_bias"] = x["delta_bias"].abs()*.1
    if delta is not None: x["delta"] = delta(x["delta"])
    return {k: v for k, v in x.items() if k in NAMES[:5] or k in optional}

def run(f, x, soft, dtype, w=None):
    x = {k: v.to(dtype).clone().requires_grad_() for k, v in x.items()}
    y, last = f(**x, delta_softplus=soft, return_last_state=True)
    w = w or (torch.randn_like(y), torch.randn_like(last))
    grads = torch.autograd.grad((y*w[0].to(dtype)).sum() + (last*w[1].to(dtype)).sum(), list(x.values()), allow_unused=True, materialize_grads=True)
    return y.detach(), last.detach(), dict(zip(x, grads)), w

def err(a, b):
    assert a.shape == b.shape, (a.shape, b.shape)
    if not b.numel(): return 0.
    return ((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30)).item()

def compare(x, soft, fwd=1e-5, bwd=1e-4):
    y, last, g, w = run(selective_scan_numba, x, soft, torch.float32)
    Y, LAST, G, _ = run(selective_scan, x, soft, torch.float64, w)
    e = dict(out=err(y, Y), last=err(last, LAST), **{"g"+k: err(g[k], G[k]) for k in g})
    assert max(e["out"], e["last"]) <= fwd, e
    assert max(v for k, v in e.items() if k[0] == "g") <= bwd, e
    return e

OPT = ["D", "z", "delta_bias", "initial_state"]

@pytest.mark.parametrize("seed", range(40))
def test_random_shapes(seed):
    r = random.Random(seed)
    batch, d, n = r.randint(1, 5), r.randint(1, 70), r.choice([1, 3, 8, 16, 17])
    L = r.choice([1, 2, 63, 64, 65, r.randint(1, 300), r.randint(300, 3000)])
    opt = [o for o in OPT if r.random() < .6]
    print(compare(make(batch, d, n, L, True, opt, seed), True))

@pytest.mark.parametrize("opt", [c for k in range(5) for c in itertools.combinations(OPT, k)])
@pytest.mark.parametrize("soft", [False, True])
def test_optional(opt, soft):
    compare(make(2, 20, 5, 150, soft, opt), soft)

@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scale", ["huge", "tiny", "mixed"])
def test_extreme_delta(scale, soft):
    lo, hi = dict(huge=(3, 4), tiny=(-6, -6), mixed=(-6, 4))[scale]
    def delta(x):
        dt = 10**(lo + (hi-lo)*torch.rand(x.shape, generator=torch.Generator().manual_seed(1)))
        return torch.where(dt > 20, dt, dt.double().expm1().log().float()) if soft else dt
    x = make(2, 24, 16, 1000, soft, ("D", "z"), delta=delta)
    # one step size for all samples: exp(dt*A) next to 1 rounds the same way each time, in any float32 implementation
    rounding = err(run(selective_scan, x, soft, torch.float32)[1], run(selective_scan, x, soft, torch.float64)[1])
    print("float32 reference", rounding)
    print(compare(x, soft, fwd=max(1e-5, 1.5*rounding)))

def test_cut_anywhere():
    x = make(2, 40, 16, 300)
    whole, last = selective_scan_numba(**x, delta_softplus=True, return_last_state=True)
    for cut in (1, 31, 64, 65, 128, 200, 299):
        part = lambda s: {k: v[..., s] if k in ("u", "delta", "B", "C", "z") else v for k, v in x.items()}
        a, h = selective_scan_numba(**part(slice(0, cut)), delta_softplus=True, return_last_state=True)
        rest = part(slice(cut, None)); rest["initial_state"] = h
        b, h = selective_scan_numba(**rest, delta_softplus=True, return_last_state=True)
        torch.testing.assert_close(torch.cat([a, b], -1), whole, rtol=0, atol=0)
        torch.testing.assert_close(h, last, rtol=0, atol=0)

def test_strides():
    x = make(3, 33, 7, 130)
    want = selective_scan_numba(**x, delta_softplus=True)
    for change in (lambda v: v.transpose(-1, -2).contiguous().transpose(-1, -2) if v.ndim > 1 else torch.stack([v, v], -1)[:, 0],
                   lambda v: torch.stack([v, v], -1)[..., 1], lambda v: v.flip(0).contiguous().flip(0)):
        y = {k: change(v) for k, v in x.items()}
        assert torch.equal(selective_scan_numba(**y, delta_softplus=True), want)
        compare(y, True)
    u = x["u"].clone(); selective_scan_numba(**x, delta_softplus=True); assert torch.equal(u, x["u"])
    for k, v in make(1, 16, 1, 5).items(): assert v.isfinite().all()

def test_inputs_untouched():
    for d, n in ((16, 1), (32, 16), (16, 16)):
        x = make(1, d, n, 70); keep = {k: v.clone() for k, v in x.items()}
        glast = torch.randn(1, d, n); gkeep = glast.clone()
        y = {k: v.requires_grad_() for k, v in x.items()}
        out, last = selective_scan_numba(**y, delta_softplus=True, return_last_state=True)
        torch.autograd.backward([out, last], [torch.ones_like(out), glast])
        assert all(torch.equal(keep[k], x[k]) for k in x) and torch.equal(glast, gkeep)

@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["u", "delta", "B", "C", "z", "initial_state", "A", "D", "delta_bias"])
def test_nan(name, bad):
    x = make(1, 20, 4, 100)
    x[name].flatten()[37 % x[name].numel()] = bad
    with torch.no_grad():
        a, b = selective_scan_numba(**x, delta_softplus=True), selective_scan(**{k: v.double() for k, v in x.items()}, delta_softplus=True)
    if bad != bad:
        if name == "delta": assert a.isnan().any()
        assert torch.equal(a.isnan(), b.isnan())
    else: assert torch.equal(a.isfinite(), b.isfinite())

@pytest.mark.parametrize("shape", [(0, 20, 4, 10), (2, 20, 4, 0)])
def test_empty(shape):
    x = {k: v.requires_grad_() for k, v in make(*shape).items()}
    y, last = selective_scan_numba(**x, delta_softplus=True, return_last_state=True)
    assert y.shape == x["u"].shape and torch.equal(last, x["initial_state"])
    (y.sum() + last.sum()).backward()
    assert all(v.grad is not None and v.grad.shape == v.shape for v in x.values())
    assert (x["initial_state"].grad == 1).all() and (x["A"].grad == 0).all()

def test_partial_gradients():
    x = make(1, 20, 4, 100, soft=False); x["u"].requires_grad_()
    selective_scan_numba(**x).sum().backward(); assert x["u"].grad.abs().max() > 0
    y, last = selective_scan_numba(**x, return_last_state=True)
    g, = torch.autograd.grad(last.sum(), x["u"])
    X = {k: v.detach().double().requires_grad_(k == "u") for k, v in x.items()}
    G, = torch.autograd.grad(selective_scan(**X, return_last_state=True)[1].sum(), X["u"])
    assert err(g, G) < 1e-4

@pytest.mark.parametrize("opt", [(), OPT])
@pytest.mark.parametrize("batch,d", [(2, 20), (1, 16), (1, 40)])
def test_opcheck(opt, batch, d):
    x = {k: v.requires_grad_() for k, v in make(batch, d, 4, 100, optional=opt).items()}
    torch.library.opcheck(scan_op, tuple(x.get(k) for k in NAMES) + (True,))

def test_compile_and_export():
    x = make(2, 20, 4, 100)
    f = lambda **x: selective_scan_numba(**x, delta_softplus=True) * 2
    c = torch.compile(f, fullgraph=True)
    assert torch.equal(c(**x), f(**x))
    a, b = ({k: v.clone().requires_grad_() for k, v in x.items()} for _ in "ab")
    c(**a).square().sum().backward(); f(**b).square().sum().backward()
    for k in a: torch.testing.assert_close(a[k].grad, b[k].grad)
    class M(torch.nn.Module):
        def forward(self, **x): return f(**x)
    program = torch.export.export(M(), (), x)
    assert [n.target for n in program.graph.nodes].count(torch.ops.mambamuse.scan_numba.default) == 1
    assert torch.equal(program.module()(**x), f(**x))

def test_threads():
    x = make(2, 70, 16, 500)
    want, got = selective_scan_numba(**x, delta_softplus=True), [None]*6
    def work(i):
        for _ in range(20): got[i] = selective_scan_numba(**x, delta_softplus=True)
    ts = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    [t.start() for t in ts]; [t.join() for t in ts]
    assert all(torch.equal(g, want) for g in got)
    n = torch.get_num_threads()
    try:
        torch.set_num_threads(1); compare(x, True)
    finally: torch.set_num_threads(n)

def test_bad_inputs():
    x = make(1, 4, 2, 5)
    with pytest.raises(ValueError, match="float32"): selective_scan_numba(**{k: v.double() for k, v in x.items()})
    with pytest.raises(ValueError, match="B has shape"): selective_scan_numba(**{**x, "B": x["B"][:, :1]})

@numba.njit
def apply_exp2(x, y):
    for i in range(0, len(x), 16): store(y, (i,), exp2(load(x, (i,))))

@numba.njit
def apply_log1p(x, y):
    for i in range(0, len(x), 16): store(y, (i,), log1p(load(x, (i,))))

def test_elementary():
    for f, F, lo, hi, tol in ((apply_exp2, np.exp2, -126, 127.4, 2e-7), (apply_exp2, np.exp2, -2, 2, 2e-7), (apply_log1p, np.log1p, 1e-30, 1, 2e-7)):
        x = np.linspace(lo, hi, 1 << 22).astype(np.float32); y = np.empty_like(x); f(x, y)
        e = np.abs(y/F(x.astype(np.float64)) - 1).max(); print(F.__name__, lo, hi, e); assert e < tol
    x = np.zeros(16, np.float32); y = x.copy(); x[:6] = 0, -np.inf, -130, np.nan, np.inf, 129; apply_exp2(x, y)
    assert y[0] == 1 and y[1] == 0 and y[2] == 0 and np.isnan(y[3]) and np.isinf(y[4:6]).all()
