"""The compiled network is the model, and the exported one: as a step, for every block, width, number of sets
and length; and in stages.
"""

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from test_export import HALF, clip, made
from test_streaming import EVERYWHERE, NARROW, gusts, noise, whole

from mambamuse.model.generator import MambaMuse
from mambamuse.model.weights import load_model, pad
from mambamuse.use import stages
from mambamuse.use.compiled import CompiledNetwork, CompiledStep
from mambamuse.use.export import export_folder
from mambamuse.use.live import live_step
from mambamuse.use.step import Carried, Running, Step
from mambamuse.use.streaming import Stream, TorchNetwork, restyled_to, signature
from mambamuse.use.style import Style


def played(step, x):
    "What a step, exported or compiled, makes of the whole sound `x (time,)`, without its delay."
    padded = np.pad(x, (0, step.delay + step.block - (len(x) + step.delay) % step.block))
    y = np.concatenate([step(block, len(x)) for block in padded.reshape(-1, step.block)])
    return y[step.delay : step.delay + len(x)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bypass", [True, False])
def test_reconstruction_equals_the_model(seed, bypass):
    model = clip(seed, bypass=bypass)
    x = noise(np.random.default_rng(seed), 3_000 + 7 * seed)
    step = CompiledStep(model.network(), block=(16, 48, 128, 256)[seed])
    assert abs(played(step, x) - whole(model, x)[: len(x)]).max() <= 1e-5


@pytest.mark.parametrize("time", [1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 300])
def test_short_sounds(time):
    model, x = clip(), noise(np.random.default_rng(time), time)
    assert abs(played(CompiledStep(model.network(), block=64), x) - whole(model, x)[:time]).max() <= 1e-5


@pytest.mark.parametrize("alphas", [EVERYWHERE, (1, 1, 1, 0.5, 0.2), (0, 0, 0, 0, 0, 0, 0, 0.5, 0)])
@pytest.mark.parametrize("bypass, sets", [(True, 1), (False, 1), (False, 2), (True, 3)])
def test_fixed_statistics_equal_the_models_own_transfer(alphas, bypass, sets):
    rng, model = np.random.default_rng(0), clip(bypass=bypass, sets=sets)
    x, style = gusts(rng, 2_501), gusts(rng, 2_001)
    with torch.inference_mode():
        known = restyled_to(model, pad(torch.from_numpy(x)[None, None]), signature(model, style), alphas)[1]
    want = whole(model, x, style, alphas)[: len(x)]
    step = CompiledStep(model.network(), signature(model, style), alphas, known, 64)
    assert abs(played(step, x) - want).max() <= 1e-5


@pytest.mark.parametrize(
    "content, alphas",
    [
        (None, EVERYWHERE),
        (Running(half_life=0.05), EVERYWHERE),
        (Running(warm_up=0), (1.0,) * 9),
        (Running(half_life=1.0, warm_up=2.0), (0, 1, 0, 1, 0, 1, 0, 1, 0)),
        (None, (0.0,) * 9),
    ],
)
@pytest.mark.parametrize("sets, block", [(1, 16), (2, 80), (4, 512)])
def test_running_statistics_equal_the_streams(content, alphas, sets, block):
    rng, model = np.random.default_rng(0), clip(sets=sets)
    x, style = gusts(rng, 4_001), signature(model, gusts(rng, 2_001))
    stream = Stream(model, style, alphas, content)
    want = np.concatenate([stream.push(x), stream.flush()])
    found = played(CompiledStep(model.network(), style, alphas, content, block), x)
    assert abs(found - want).max() <= 1e-5


@pytest.mark.parametrize("block", [16, 128, 256, 1_024])
def test_the_package_compiled_is_the_package_exported(block):
    "Every block but those before the delay, in which the exported step plays what it likes."
    rng, model = np.random.default_rng(0), load_model()
    x, style = gusts(rng, 12 * 1_024), signature(model, gusts(rng, 8_001))
    steps = CompiledStep(model.network(), style, block=block), Step(made(model, block, model.alphas), style)
    a, b = (np.concatenate([step(samples) for samples in x.reshape(-1, block)]) for step in steps)
    assert steps[0].delay == steps[1].delay and steps[0].weights == steps[1].weights
    assert abs(b).max() > 0.01 and abs(a - b)[steps[0].delay :].max() <= 1e-5
    assert not a[: steps[0].delay].any()


@pytest.mark.parametrize("widths", [(32, 64, 128, 256), HALF, (12, 20, 34, 6)])
def test_widths_that_fill_no_register(widths):
    model, x = clip(widths=widths, sets=2), gusts(np.random.default_rng(0), 1_500)
    style = signature(model, gusts(np.random.default_rng(1), 2_000))
    stream = Stream(model, style)
    want = np.concatenate([stream.push(x), stream.flush()])
    assert abs(played(CompiledStep(model.network(), style, block=128), x) - want).max() <= 1e-5


@pytest.mark.parametrize("sets", [1, 4])
@pytest.mark.parametrize("content", [Running(), Running(half_life=0.05, warm_up=0)])
def test_silence_before_between_and_after(sets, content):
    rng, model = np.random.default_rng(0), clip(sets=sets)
    style, quiet = signature(model, gusts(rng, 2_001)), np.zeros(6_000, np.float32)
    x = np.concatenate([quiet, gusts(rng, 3_000), quiet, gusts(rng, 3_000)])
    stream = Stream(model, style, EVERYWHERE, content)
    want = np.concatenate([stream.push(x), stream.flush()])
    found = played(CompiledStep(model.network(), style, EVERYWHERE, content, 256), x)
    assert np.isfinite(found).all() and abs(found - want).max() <= 2e-5


def test_start_forgets_and_two_steps_do_not_meet():
    rng, model = np.random.default_rng(0), clip(sets=2)
    x, style = noise(rng, 64 * 20), signature(model, noise(rng, 2_000))
    one, other = (CompiledStep(model.network(), style, block=64) for _ in "ab")
    first = [one(block) for block in x.reshape(-1, 64)]
    both = [(one(block), other(2 * block))[0] for block in [one.start(), *x.reshape(-1, 64)][1:]]
    assert np.array_equal(first, both)


def test_a_copy_goes_on_by_itself():
    "A step that has played, copied: both play on, each its own sound."
    rng, model = np.random.default_rng(0), clip(sets=2)
    x, style = noise(rng, 64 * 20).reshape(-1, 64), signature(model, noise(rng, 2_000))
    one, alone = (CompiledStep(model.network(), style, block=64) for _ in "ab")
    want = [alone(block) for block in x]
    begun = [one(block) for block in x[:10]]
    other = deepcopy(one)
    kept = [(one(block), other(-block))[0] for block in x[10:]]
    assert np.array_equal(want, begun + kept)
    assert np.array_equal(want, [block for block in map(deepcopy(alone).start(), x)])


def test_weights_in_training_form_are_the_same():
    torch.manual_seed(0)
    model, x = MambaMuse(widths=NARROW, axis="clip"), noise(np.random.default_rng(0), 640)
    a = played(CompiledStep(model.network(), block=64), x)
    assert abs(a - played(CompiledStep(model.for_inference().network(), block=64), x)).max() <= 1e-5


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda model: CompiledStep(model.network(), block=100), "multiple of 16"),
        (lambda model: CompiledStep(model.network(), np.zeros(2_000)), "as statistics"),
        (lambda model: CompiledStep(model.network(), np.zeros((8, 12))), "channels"),
        (lambda model: CompiledStep(model.network())(np.zeros(255)), r"\(255,\)"),
        (lambda model: CompiledStep(model.network())(np.full(256, np.nan)), "NaN"),
        (lambda model: CompiledStep(model.network(), alphas=[2] * 9), "from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        bad(clip())


def test_a_model_is_compiled_where_it_can_be():
    "Not with a style for each frame, and not in another precision: there PyTorch runs it."
    frame, double = MambaMuse(widths=NARROW), clip().double()
    assert [type(model.network()) for model in (clip(), frame, double)] == [
        CompiledNetwork,
        TorchNetwork,
        TorchNetwork,
    ]


def test_live_is_compiled_where_it_can_be(tmp_path):
    "The package's network is, and one's own weights; the frame axis and an exported folder are not."
    style = noise(np.random.default_rng(0), 3_000)
    model = clip(sets=2, folder=tmp_path / "clip")
    export_folder(model, tmp_path / "onnx", 32)
    torch.manual_seed(0)
    MambaMuse(widths=NARROW).save_pretrained(tmp_path / "frame")
    kinds = dict(clip=CompiledStep, onnx=Step, frame=Step)
    for weights, kind in ((None, CompiledStep), *((tmp_path / name, kind) for name, kind in kinds.items())):
        live = live_step(style, 1.0, 32, False, weights)
        assert type(live.step) is kind and np.isfinite(live(np.zeros(32))).all()


@pytest.mark.parametrize("piece, time", [(512, 1_501), (1_536, 5_003), (2**14, 5_003), (2**14, 40_001)])
@pytest.mark.parametrize("bypass, sets", [(True, 1), (False, 2), (False, 4)])
def test_the_compiled_stages_are_the_model(monkeypatch, piece, time, bypass, sets):
    "Two channels, in threads; the style measured by both, and the output."
    monkeypatch.setattr(stages, "PIECE", piece)
    rng, model = np.random.default_rng(0), clip(bypass=bypass, sets=sets)
    x, style = 0.9 * gusts(rng, 2, time), gusts(rng, 3_000)
    networks = model.network(), TorchNetwork(model)
    styles = [stages.measured_style(network, style) for network in networks]
    assert np.allclose(*styles, rtol=1e-4, atol=1e-5)
    found, want = (stages.restyled(network, x, styles[0], 0.9) for network in networks)
    assert found.shape == want.shape and abs(found - want).max() <= 1e-5


def test_the_package_is_compiled_without_pytorch():
    "Its weights are read and folded with NumPy; about its alphas and tone the exported folder speaks."
    carried, made = CompiledNetwork.carried(), load_model().network()
    assert carried.weights == made.weights and carried.places == made.places
    about = [(network.alphas, network.tone, network.sets, network.bypass) for network in (carried, made)]
    assert about[0] == about[1]
    a, b = (network.stage(0, 512).machine.layout for network in (carried, made))
    assert (a.code == b.code).all() and np.allclose(a.memory, b.memory, rtol=1e-5, atol=1e-6)
    code = "import sys, mambamuse.use.compiled; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_live_equals_the_exported_step():
    "All that stands around the step is the same; so is the sound."
    rng = np.random.default_rng(0)
    style = Style.of(Carried(), gusts(rng, 16_000))
    x = gusts(rng, 256 * 60)
    live = live_step(style, 1.0, 256, False, None)
    exported = live_step(style, 1.0, 256, False, None)
    exported.step = Step(Carried().step(256), style.statistics, Carried().alphas, Running(warm_up=0.1))
    exported.start()
    a, b = (np.concatenate([each(block) for block in x.reshape(-1, 256)]) for each in (live, exported))
    assert abs(a).max() > 0.01 and abs(a - b).max() <= 1e-4


def test_the_same_without_avx512(tmp_path):
    "On another processor, which this process pretends to be, a product has smaller tiles."
    code = """
import sys; sys.path.insert(0, sys.argv[1])
import numba; numba.njit(lambda: 0)()  # numba itself goes on as before
import llvmlite.binding; llvmlite.binding.get_host_cpu_features = dict
import test_compiled as t, mambamuse.use.instructions as i
assert not i.AVX512
t.test_widths_that_fill_no_register((16, 32, 64, 128))
t.test_reconstruction_equals_the_model(0, False)
"""
    env = os.environ | dict(NUMBA_CACHE_DIR=str(tmp_path))  # kernels of their own
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
