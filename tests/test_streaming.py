"""Streamed equals offline: for every layer, for the whole network, for every way AdaIN can know its
statistics; and the other ways in are refused.
"""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.signal import lfilter
from torch import nn
from typer.testing import CliRunner

from mambamuse.cli import app
from mambamuse.errors import InputError
from mambamuse.judge.pairs import shipped_pairs
from mambamuse.model.adain import statistics
from mambamuse.model.blocks import (
    ChannelNorm,
    Conv,
    ConvTransposed,
    EncoderBlock,
    MambaBlock,
    ResidualBlock,
    leaky,
)
from mambamuse.model.envelope import envelope_stages
from mambamuse.model.generator import MambaMuse
from mambamuse.model.places import EPS, PLACES, STRIDES, check_alphas
from mambamuse.model.weights import fit, load_model, pad
from mambamuse.sound.audio import load, normalise, resample, save
from mambamuse.use import stages
from mambamuse.use.files import transfer_file
from mambamuse.use.levels import Gate, fade_ends, hold_start
from mambamuse.use.step import flat
from mambamuse.use.streaming import (
    Follow,
    Running,
    Stages,
    Stream,
    TorchNetwork,
    cuts,
    distance,
    places,
    restyled_to,
    signature,
    streamed,
)
from mambamuse.use.style import Style, digest, mix, style_file, style_of
from mambamuse.use.tone import FLAT
from mambamuse.use.transfer import transfer

NARROW = (4, 8, 16, 32)
ENCODER, EVERYWHERE = (1, 1, 1, 0.5, 0.2), (1, 1, 0.8, 0.5, 0.2, 0.7, 1, 0.3, 1)


def shaken(module, by=0.03):
    "Every tensor away from its initial value, so that no scale of 1 or bias of 0 can hide an error."
    with torch.no_grad():
        for p in module.parameters():
            p += by * torch.randn_like(p)
    return module.eval()


def noise(rng, *shape):
    return rng.uniform(-0.9, 0.9, shape).astype(np.float32)


def gusts(rng, *shape):
    "Noise that begins suddenly, dies away and begins again: its envelope has every stage."
    age = np.arange(shape[-1]) % rng.integers(300, 900)
    return noise(rng, *shape) * np.exp(-age / rng.uniform(30, 300)).astype(np.float32)


def in_blocks(stream, x, largest, rng):
    return np.concatenate(
        [*map(stream.push, np.split(x, np.cumsum(cuts(x.shape[-1], largest, rng))[:-1], -1)), stream.flush()],
        -1,
    )


@torch.inference_mode()
def whole(model, x, style=None, alphas=None):
    "The model's own forward pass on `x (time,)`."
    x = pad(torch.from_numpy(x)[None, None])
    return model(
        x,
        (
            style
            if style is None
            else (
                fit(torch.from_numpy(style), x.shape[-1])[None, None]
                if model.axis == "frame"
                else pad(torch.from_numpy(style)[None, None])
            )
        ),
        alphas,
    )[0, 0].numpy()


def extended(x):
    """`x (channels, time)` between 1,024 samples of silence and as many of its mirror image, faded out; zeros
    up to a multiple of 16.
    """
    behind = np.zeros((len(x), 1_024))
    mirrored = x[:, ::-1][:, 1:1_025]
    behind[:, : mirrored.shape[1]] = mirrored
    behind *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, 1_025) / 1_024)
    whole = np.concatenate([np.zeros((len(x), 1_024)), x, behind], 1)
    return np.pad(whole, ((0, 0), (0, -whole.shape[1] % 16)))


def inside(features, place, time, weights):
    """Mean and deviation `(1, channels, sets)` of features over the steps inside the recording, all its
    channels together; `weights (channels of the sound, sets, frames)`.
    """
    steps = slice(1_024 // STRIDES[place], -(-(1_024 + time) // STRIDES[place]))
    pooled, shares = (
        x[..., steps].transpose(0, 1).flatten(1).double()
        for x in (features, weights.repeat_interleave(16 // STRIDES[place], -1))
    )
    shares = (shares + 0.01) / (shares + 0.01).sum(1, keepdim=True)
    mean = pooled @ shares.T
    variance = torch.einsum("cst,st->cs", (pooled[:, None] - mean[..., None]) ** 2, shares)
    n = pooled.shape[1]
    deviation = torch.sqrt(variance * n / max(1, n - 1) + EPS)
    return [s[None].to(features.dtype) for s in (mean, deviation)]


@torch.inference_mode()
def plain_style(model, sound):
    "The style `(2 * sets, channels)` of `sound (time,)`, from whole tensors."
    x = torch.tensor(extended(sound[None]), dtype=next(model.parameters()).dtype)[:, None]
    weights = envelope_stages(x, model.sets)
    pairs = [inside(f, place, len(sound), weights) for place, f in enumerate(model.features(x, 4))]
    return np.concatenate([torch.cat([pair[k][0] for pair in pairs]).T.numpy() for k in (0, 1)])


@torch.inference_mode()
def plain_transfer(model, x, style, alpha=1.0):
    """What `stages.restyled` must give for `x (channels, time)`: whole tensors, the model's own modules,
    AdaIN written out.
    """
    whole, time, dtype = extended(x), x.shape[1], next(model.parameters()).dtype
    content = torch.tensor(whole, dtype=dtype)[:, None]
    alphas = [alpha * a for a in check_alphas(model.alphas)]
    if model.axis == "frame":
        paired = np.resize(np.roll(style, 1_024 % len(style)), whole.shape[1])
        y = model(content, torch.tensor(paired, dtype=dtype).expand(len(x), 1, -1), alphas)
    else:
        wanted = torch.tensor(style, dtype=dtype).split(
            [f.shape[1] for f in model.features(content[..., :32], 4)], 1
        )
        weights = envelope_stages(content, model.sets)

        def change(place, f):
            now = weights.repeat_interleave(16 // STRIDES[place], -1)
            mean, deviation = (s @ now for s in inside(f, place, time, weights))
            new_mean, new_deviation = (s.T @ now for s in wanted[place].chunk(2))
            return (
                alphas[place] * ((f - mean) / deviation * new_deviation + new_mean) + (1 - alphas[place]) * f
            )

        y = model.decode(model.encode(content), change)
    y, kept = y[:, 0].numpy(), np.exp(-2 * np.pi * 10 / 16_000)
    y = (y - lfilter([1 - kept], [1, -kept], y))[
        :, 1_024 : 1_024 + time
    ]  # without its constant part: a high-pass at 10 Hz
    return hold_start(fade_ends(y * Gate(len(x))(x), 0, time), x)


def allowed(model, x, style, alpha=1.0):
    """1e-5; on the frame axis (see `rounding`), with twice the distance of the float32 model from the same in
    float64.
    """
    if model.axis == "clip":
        return 1e-5
    exact = plain_transfer(copy.deepcopy(model).double(), x, style, alpha)
    return 1e-5 + 2 * abs(plain_transfer(model, x, style, alpha) - exact).max()


def rounding(model, x, style, alphas):
    """How far the model's own pass on `x` is from the same in float64. AdaIN divides by deviations that, over
    the few channels of a frame, are sometimes next to nothing.
    """
    exact = whole(copy.deepcopy(model).double(), x.astype(np.float64), style.astype(np.float64), alphas)
    return abs(whole(model, x, style, alphas) - exact).max()


@pytest.mark.parametrize(
    "module",
    [
        Conv(8, 6, 3, padding=1),
        Conv(8, 6, 3, padding=3, dilation=3),
        Conv(8, 1, 7, padding=3),
        ConvTransposed(8, 6, 4, 2, 1),
        ConvTransposed(8, 6, 8, 2, 3),
        ChannelNorm(8),
        leaky(),
        nn.Tanh(),
        MambaBlock(8, 3),
        EncoderBlock(8, 16),
        EncoderBlock(8, 8, kernel=3, mambas=3, pool=False),
        ResidualBlock(8),
        nn.Sequential(leaky(), ChannelNorm(8)),
    ],
    ids=lambda m: f"{type(m).__name__}{getattr(m, 'kernel_size', '')}{getattr(m, 'dilation', '')}",
)
def test_step_equals_layer(module):
    rng = np.random.default_rng(0)
    for time in (2, 3, 31, 256, 301):
        for largest in (1, 5, 300):
            assert distance(shaken(module), torch.randn(2, 8, time), rng, largest) < 5e-6


def test_a_module_without_partner_is_refused():
    with pytest.raises(TypeError, match="LSTM"):
        streamed(nn.LSTM(3, 3))


@pytest.mark.parametrize("seed", range(3))
def test_reconstruction_equals_the_model(seed):
    "3 x 13 random cuts of two seconds; blocks from 1 sample to all of it."
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), MambaMuse(widths=NARROW).for_inference()
    x = noise(rng, 32_000 + seed)
    want = whole(model, x)[: len(x)]
    for largest in [32_000] * 13:
        assert abs(in_blocks(Stream(model), x, largest, rng) - want).max() <= 1e-5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("axis", ["frame", "clip"])
@pytest.mark.parametrize("alphas", [ENCODER, EVERYWHERE], ids=["encoder", "everywhere"])
def test_transfer_equals_the_model(axis, alphas, seed):
    """16 x 4 random cuts. On the clip axis with the statistics of the whole content: then nothing but the
    model's own output will do.
    """
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), MambaMuse(widths=NARROW, axis=axis).for_inference()
    x, style = noise(rng, 4_000 + 5 * seed), noise(rng, 2_001)
    with torch.inference_mode():
        content = (
            restyled_to(model, pad(torch.from_numpy(x)[None, None]), signature(model, style), alphas)[1]
            if axis == "clip"
            else None
        )
    want = whole(model, x, style, alphas)[: len(x)]
    assert abs(want - whole(model, x)[: len(x)]).max() > 1e-3  # AdaIN did something
    bound = 1e-5 + 2 * rounding(model, x, style, alphas) * (axis == "frame")
    for largest in (4_000, 4_000, 4_000, 500):
        assert (
            abs(in_blocks(Stream(model, style, alphas, content), x, largest, rng) - want).max()
            <= bound
            < 1e-4
        )


@pytest.mark.parametrize("axis", ["frame", "clip"])
def test_full_width_equals_the_model(axis):
    rng, model = np.random.default_rng(0), MambaMuse(axis=axis).for_inference()
    x, style = noise(rng, 6_000), noise(rng, 5_000)
    with torch.inference_mode():
        content = (
            restyled_to(model, pad(torch.from_numpy(x)[None, None]), signature(model, style), EVERYWHERE)[1]
            if axis == "clip"
            else None
        )
    for largest in (6_000, 700):
        assert (
            abs(
                in_blocks(Stream(model, style, EVERYWHERE, content), x, largest, rng)
                - whole(model, x, style, EVERYWHERE)[: len(x)]
            ).max()
            <= 1e-5
        )


def test_without_bypass_too():
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, bypass=False).for_inference()
    x = noise(rng, 5_000)
    assert abs(in_blocks(Stream(model), x, 1_000, rng) - whole(model, x)[: len(x)]).max() <= 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_trained_weights_too(seed):
    """The package's weights, on its own phrases and on noise: reconstruction and transfer, 2 x 4 random cuts
    each.
    """
    rng, model = np.random.default_rng(seed), load_model()
    pairs = shipped_pairs("phrases").iloc[seed]
    content, style = (normalise(load(pairs[kind])[0])[0][0] for kind in ("content", "style"))
    mark = signature(model, style)
    for x in (content, noise(rng, 20_000 + seed)):
        with torch.inference_mode():
            wanted, met = restyled_to(model, pad(torch.from_numpy(x)[None, None]), mark, model.alphas)
        for stream, want in (
            (lambda: Stream(model), whole(model, x)),
            (lambda: Stream(model, mark, content=met), wanted[0, 0].numpy()),
        ):
            for _ in range(4):
                assert abs(in_blocks(stream(), x, 32_000, rng) - want[: len(x)]).max() <= 1e-5


def test_single_precision_is_the_only_difference():
    model = shaken(MambaMuse(widths=NARROW)).for_inference().double()
    x, stream, rng = torch.rand(2, 1_600, dtype=torch.double) - 0.5, Stream(model), np.random.default_rng(0)
    y = np.concatenate(
        [*map(stream.step, x.split(cuts(1_600, 300, rng), -1)), stream.step(x[:, :0], last=True)], -1
    )
    with torch.inference_mode():
        assert abs(y - model(x[:, None])[:, 0].numpy()).max() < 1e-12


def test_a_model_in_double_precision_takes_blocks_and_a_style():
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis="clip", sets=2).for_inference()
    x, style = noise(rng, 3_000), noise(rng, 2_000)
    want = in_blocks(Stream(model, style, EVERYWHERE), x, 900, rng)
    got = in_blocks(Stream(copy.deepcopy(model).double(), style, EVERYWHERE), x, 900, rng)
    assert got.dtype == np.float64 and abs(got - want).max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_refused(dtype):
    with pytest.raises(InputError, match=r"too coarse for a stream: give model.float\(\)"):
        Stream(MambaMuse(widths=NARROW).to(dtype))


@pytest.mark.parametrize(
    "wrong", [dict(half_life=1e-3), dict(half_life=0), dict(warm_up=np.inf), dict(warm_up=-1)]
)
def test_statistics_of_no_time_and_of_all_time_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Running(**wrong)


@pytest.mark.parametrize("wrong", [[1.0] * 9, [np.float64(1)] * 9, [(np.zeros(3),)] * 9])
def test_statistics_that_are_no_pairs_are_refused(wrong):
    with pytest.raises(InputError, match=r"expected pairs \(mean, deviation\)"):
        Stream(MambaMuse(widths=NARROW, axis="clip"), wrong)


@pytest.mark.parametrize("time", [1, 2, 15, 16, 17, 31, 32, 33, 300])
def test_short_sounds(time):
    rng, model = np.random.default_rng(time), MambaMuse(widths=NARROW).for_inference()
    x = noise(rng, time)
    y = in_blocks(Stream(model), x, 10, rng)
    assert y.shape == x.shape and abs(y - whole(model, x)[:time]).max() <= 1e-5


def test_channels_do_not_mix():
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW).for_inference()
    x, style = noise(rng, 2, 3_000), noise(rng, 1_000)
    both = in_blocks(Stream(model, style, ENCODER), x, 500, rng)
    assert both.shape == x.shape
    for one, channel in zip(both, x):
        assert abs(one - in_blocks(Stream(model, style, ENCODER), channel, 500, rng)).max() <= 1e-5


@pytest.mark.parametrize("block", [16, 64, 256, 1_000])
@pytest.mark.parametrize("axis", ["frame", "clip"])
def test_no_click_at_the_edges_of_blocks(axis, block):
    """RMS of the first differences around each edge, of the blocks pushed and of those that came back, as
    offline to 1e-5: of a tone, where a step would stand out.
    """
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis=axis).for_inference()
    time = min(32 * block, 4_096)
    x, style = (
        (0.5 * np.sin(2 * np.pi * 440 * np.arange(time) / 16_000)).astype(np.float32),
        noise(rng, 2_001),
    )
    with torch.inference_mode():
        content = (
            restyled_to(model, pad(torch.from_numpy(x)[None, None]), signature(model, style), EVERYWHERE)[1]
            if axis == "clip"
            else None
        )
    make, pieces = lambda: Stream(model, style, EVERYWHERE, content), np.split(x, range(block, time, block))

    def energy(y, edges):
        return np.sqrt([np.square(np.diff(y[max(0, edge - 8) : edge + 8])).mean() for edge in edges])

    def whole_stream():
        stream = make()
        return [*map(stream.push, pieces), stream.flush()]

    def restarted(piece):
        stream = make()
        return np.concatenate([stream.push(piece), stream.flush()])

    want, got = whole(model, x, style, EVERYWHERE)[:time], whole_stream()
    pushed, given = (np.cumsum([len(piece) for piece in parts])[:-1] for parts in (pieces, got))
    for edges in (pushed, given[(given > 0) & (given < time)]):
        assert abs(energy(np.concatenate(got), edges) - energy(want, edges)).max() <= 1e-5
    assert (
        abs(energy(np.concatenate([*map(restarted, pieces)]), pushed) - energy(want, pushed)).max() > 1e-3
    )  # blocks without memory do click


@pytest.mark.parametrize("axis", ["frame", "clip"])
def test_the_style_may_be_overwritten_while_streaming(axis):
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis=axis).for_inference()
    x, style = noise(rng, 4_000), noise(rng, 1_000)
    want = in_blocks(Stream(model, style, ENCODER), x, 4_000, np.random.default_rng(1))
    stream = Stream(model, style, ENCODER)
    got = [stream.push(x[:500])]
    style[:] = 0
    assert abs(np.concatenate([*got, stream.push(x[500:]), stream.flush()]) - want).max() <= 1e-5


def test_a_source_that_changes_its_rate_is_two_streams():
    """A stream knows 16 kHz alone: what came before ends with `flush`, the rest begins anew; each part is
    what it would be alone.
    """
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW).for_inference()
    parts = [resample(noise(rng, 1, rate // 4), rate, 16_000)[0] for rate in (44_100, 8_000)]
    for part in parts:
        assert abs(in_blocks(Stream(model), part, 700, rng) - whole(model, part)[: len(part)]).max() <= 1e-5
    ended = Stream(model)
    ended.push(parts[0]), ended.flush()
    with pytest.raises(ValueError, match="flushed: make a new one"):
        ended.push(parts[1])


def test_never_more_than_283_samples_behind():
    model, ahead = MambaMuse(widths=NARROW).for_inference(), []
    stream, out = Stream(model), 0
    for n in range(1, 400):
        out += len(stream.push(np.zeros(1)))
        ahead.append(n - out)
    assert max(ahead) == 283


@pytest.mark.parametrize("steps", [1, 8])
def test_running_statistics_are_those_of_the_past(steps):
    style, x = 3 * torch.randn(1, 4, 60) + 1, torch.randn(2, 4, 300) + 2
    one = torch.ones(2, 1, 300)  # the weight of the one stage that there is
    mean, deviation = Follow(statistics(style, "clip"), 60, 1.0, steps)(x, one)
    for t in (0, 1, 50, 299):
        heard = torch.cat([style.expand(2, -1, -1), x[..., : t // steps * steps]], -1)  # before the frame
        for got, want in zip((mean, deviation), statistics(heard, "clip")):
            assert torch.allclose(got[..., t : t + 1], want, atol=1e-5)
    mean, _ = Follow(statistics(style, "clip"), 60, 0.5 ** (1 / 10), steps)(x, one)
    before = 299 // steps * steps
    weights = 0.5 ** (torch.arange(before // steps).flip(0) / 10)  # what is 10 frames old counts half
    weights = weights.repeat_interleave(steps)
    left = 60 * 0.5 ** (before // steps / 10)  # of the prior's weight
    wanted = (x[..., :before] * weights).sum(-1) + left * style.mean(-1)
    assert torch.allclose(mean[..., -1], wanted / (weights.sum() + left), atol=1e-5)


@pytest.mark.parametrize("content", [Running(), Running(half_life=0.2), Running(warm_up=0)])
def test_running_statistics_in_the_network(content):
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis="clip").for_inference()
    x, style = noise(rng, 2, 12_000), noise(rng, 5_000)
    heard, sound = Stages(1), torch.from_numpy(x)[:, None]
    heard.push(sound)
    change = places("clip", signature(model, style), check_alphas(EVERYWHERE), content, heard)
    with torch.inference_mode():
        want = model.decode(model.encode(sound), lambda place, features: change[place](features, last=True))[
            :, 0
        ].numpy()
    for largest in (12_000, 12_000, 900):
        assert abs(in_blocks(Stream(model, style, EVERYWHERE, content), x, largest, rng) - want).max() <= 1e-5


def test_a_stream_begins_with_the_contents_own_sound():
    "Before there is evidence, running statistics leave the content as it is."
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis="clip").for_inference()
    x, style = noise(rng, 16_000), noise(rng, 5_000)
    plain = in_blocks(Stream(model), x, 5_000, rng)

    def change(warm_up):
        return abs(in_blocks(Stream(model, style, ENCODER, Running(warm_up=warm_up)), x, 5_000, rng) - plain)

    assert change(1e4).max() < 1e-3 < 1e-2 < change(0.1).max()


def test_what_cannot_be_is_refused_and_the_stream_goes_on():
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW).for_inference()
    x, stream, twin = noise(rng, 2_000), Stream(model), Stream(model)
    got = [stream.push(x[:900])]
    for bad, message in [
        (np.full(9, np.nan), "NaN"),
        (np.full(9, np.inf), "NaN"),
        (np.zeros((2, 9)), "channels"),
        (np.zeros((1, 1, 9)), "channels"),
        (np.float32(0), "channels"),
    ]:
        with pytest.raises(InputError, match=message):
            stream.push(bad)
    assert stream.push(x[:0]).shape == (0,)
    got = np.concatenate([*got, stream.push(x[900:]), stream.flush()])
    assert np.array_equal(got, np.concatenate([twin.push(x[:900]), twin.push(x[900:]), twin.flush()]))
    for late in (stream.flush, lambda: stream.push(x)):
        with pytest.raises(ValueError, match="flushed"):
            late()
    assert Stream(model).flush().shape == (0,)


@pytest.mark.parametrize(
    "axis, arguments, message",
    [
        ("frame", dict(alphas=(1, 1, 1, 1, 1.5)), "alphas"),
        ("frame", dict(alphas=(1, 1, 1, 1, -0.1)), "alphas"),
        ("frame", dict(alphas=(1, 1)), "alphas"),
        ("frame", dict(style=np.zeros((2, 9), np.float32)), "style"),
        ("frame", dict(style=np.zeros(0, np.float32)), "style"),
        ("clip", dict(style=np.full(9, np.nan, np.float32)), "NaN"),
        ("frame", dict(style=[]), "give the style as audio"),
        ("frame", dict(style=np.ones(9, np.float32), content=Running()), "clip axis"),
        ("clip", dict(content=Running()), "clip axis"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(axis, arguments, message):
    with pytest.raises(ValueError, match=message):
        Stream(MambaMuse(widths=NARROW, axis=axis), **arguments)


@pytest.mark.parametrize("sets", [2, 3, 4])
@pytest.mark.parametrize("content", [None, Running(half_life=0.05), Running(warm_up=0.01)])
def test_several_sets_of_statistics_in_blocks(sets, content):
    "In random blocks as at once; channels do not mix; with the statistics of the whole it is the model."
    torch.manual_seed(sets)
    rng, model = np.random.default_rng(sets), MambaMuse(widths=NARROW, axis="clip", sets=sets).for_inference()
    x, style = gusts(rng, 2, 4_005), gusts(rng, 2_001)
    want = in_blocks(Stream(model, style, EVERYWHERE, content), x, 10_000, np.random.default_rng(1))
    one = Stream(model, style, EVERYWHERE, content)
    at_once = np.concatenate([one.push(x[0]), one.flush()])
    assert abs(want[0] - at_once).max() <= 1e-5
    for largest in (50, 700, 4_000):
        assert abs(in_blocks(Stream(model, style, EVERYWHERE, content), x, largest, rng) - want).max() <= 1e-5
    with torch.inference_mode():
        known = restyled_to(model, pad(torch.from_numpy(x)[:, None]), signature(model, style), EVERYWHERE)[1]
    got = in_blocks(Stream(model, style, EVERYWHERE, known), x, 700, rng)
    for mine, channel in zip(got, x):
        assert abs(mine - whole(model, channel, style, EVERYWHERE)[: len(channel)]).max() <= 1e-5


@pytest.mark.parametrize("model_sets, sets", [(1, 2), (2, 1), (2, 3)])
def test_statistics_of_another_number_of_sets_are_refused(model_sets, sets):
    "Whether they are the style's or the content's, of a sound or of half the places."
    rng, x = np.random.default_rng(0), noise(np.random.default_rng(1), 3_000)
    model, other = (MambaMuse(widths=NARROW, axis="clip", sets=n) for n in (model_sets, sets))
    own, foreign = (
        [tuple(s.detach() for s in pair) for pair in signature(m, gusts(rng, 2_000))] for m in (model, other)
    )
    says = f"bottleneck has {sets} x 32 channels, and the model {model_sets} x 32"
    with pytest.raises(InputError, match=f"^style: {says}$"):
        Stream(model, foreign)
    with pytest.raises(InputError, match=f"^content: {says}$"):
        Stream(model, own, content=foreign)
    for wrong in (own[:5], x, "a.style", Style.of(model, x)):
        with pytest.raises(InputError, match=r"^content: expected a pair .* for each of the 9 places$"):
            Stream(model, own, content=wrong)


def test_a_long_stream_forgets_what_no_layer_asks_for():
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis="clip", sets=2).for_inference()
    stream = Stream(model, gusts(rng, 2_001))
    for _ in range(60):
        stream.push(gusts(rng, 1_000))
    assert stream.net.stages.frames.shape[-1] <= (1_000 + 1_024) // 16 + 3


def test_the_model_is_left_as_it_was():
    model = MambaMuse(widths=NARROW).for_inference()
    before = copy.deepcopy(model.state_dict())
    Stream(model).push(np.ones(1_000))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("piece", [48, 528, 2**14])
@pytest.mark.parametrize(
    "axis, sets, bypass, alphas",
    [
        ("clip", 1, True, EVERYWHERE),
        ("clip", 1, False, ENCODER),
        ("clip", 2, True, EVERYWHERE),
        ("clip", 3, False, EVERYWHERE),
        ("frame", 1, True, EVERYWHERE),
    ],
)
def test_stages_are_the_whole(monkeypatch, axis, sets, bypass, alphas, piece, channels):
    """The pipeline, in pieces of any multiple of 16, against whole tensors: framing, shared statistics, gate
    and fades.
    """
    monkeypatch.setattr(stages, "PIECE", piece)
    rng, model = (
        np.random.default_rng(piece),
        shaken(
            MambaMuse(widths=NARROW, axis=axis, bypass=bypass, alphas=tuple(map(float, alphas)), sets=sets)
        ).for_inference(),
    )
    x, sound = gusts(rng, channels, 403), gusts(rng, 901)
    style = sound if axis == "frame" else plain_style(model, sound)
    network = TorchNetwork(model)
    got, want = stages.restyled(network, x, style, 0.9), plain_transfer(model, x, style, 0.9)
    assert abs(want - stages.restyled(network, x, style, 0.1)).max() > 1e-3  # AdaIN did something
    assert got.shape == x.shape and abs(got - want).max() <= allowed(model, x, style, 0.9) < 1e-3


def test_channels_share_their_statistics():
    "A loud and a soft channel keep their distance; each by itself would not."
    rng, model = (
        np.random.default_rng(0),
        shaken(MambaMuse(widths=NARROW, axis="clip", alphas=tuple(map(float, EVERYWHERE)))).for_inference(),
    )
    x, style = noise(rng, 1, 4_000) * np.float32([[1], [0.01]]), plain_style(model, noise(rng, 2_001))
    both, alone = (stages.restyled(model.network(), sound, style, 1.0) for sound in (x, x[1:]))
    assert abs(both[1] - alone[0]).max() > 1e-2
    assert abs(both - plain_transfer(model, x, style)).max() <= allowed(model, x, style)


@pytest.mark.parametrize("sets", [1, 2, 4])
@pytest.mark.parametrize("time", [1, 2, 100, 1_023, 1_024, 5_000])
def test_a_measured_style_is_that_of_whole_tensors(time, sets):
    "1e-5 of the numbers, which reach beyond 1."
    rng = np.random.default_rng(time)
    model = shaken(MambaMuse(widths=NARROW, axis="clip", sets=sets)).for_inference()
    sound = gusts(rng, time)
    want = plain_style(model, sound)
    assert np.allclose(stages.measured_style(model.network(), sound), want, rtol=1e-5, atol=1e-5)


def test_trained_weights_transfer_as_whole_tensors():
    "The package's weights, on a pair of phrases."
    pair, model = shipped_pairs("phrases").iloc[0], load_model()
    content, style = (normalise(load(pair[kind])[0])[0][:, :16_000] for kind in ("content", "style"))
    statistics = plain_style(model, style[0])
    got = stages.restyled(model.network(), content, statistics, 1.0)
    assert abs(got - plain_transfer(model, content, statistics)).max() <= 1e-5


def test_one_recording_needs_no_list(tmp_path):
    save(tmp_path / "a.wav", noise(np.random.default_rng(0), 9_000), 16_000)
    one, listed = (
        Style.load(style_file(sounds, tmp_path / f"{name}.style"))
        for name, sounds in (("one", str(tmp_path / "a.wav")), ("listed", [tmp_path / "a.wav"]))
    )
    assert np.array_equal(one.statistics, listed.statistics)


def test_a_style_file_is_the_sound(tmp_path):
    """Its output is that of the recording, to the bit; a few kilobytes at full width; refused by other
    weights.
    """
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis="clip").for_inference()
    x, sound = noise(rng, 4_000), noise(rng, 3_000)
    Style.of(model, sound).save(tmp_path / "a.style")
    style = Style.load(tmp_path / "a.style")
    one = model.transfer(x, tmp_path / "a.style")
    assert np.array_equal(one, model.transfer(x, sound)) and abs(one - model.transfer(x, x)).max() > 1e-3
    with pytest.raises(InputError, match=f"a.style.*{style.weights}"):
        style.on(MambaMuse(widths=NARROW, axis="clip"))
    Style.of(MambaMuse(axis="clip"), sound).save(tmp_path / "full.style")
    assert (tmp_path / "full.style").stat().st_size < 10_000


def rewritten(path, out, change=lambda tensors: None, **about):
    """The style file `path` as `out`, with its tensors changed, and the right hash; `about` replaces
    metadata, None takes it away.
    """
    tensors = load_file(path)
    change(tensors)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    pairs = [(tensors[f"{place}.mean"], tensors[f"{place}.deviation"]) for place in PLACES]
    metadata = (
        metadata | dict(digest=digest(flat(pairs, [len(mean) for mean, _ in pairs]), tensors["tone"])) | about
    )
    save_file(tensors, out, {key: value for key, value in metadata.items() if value is not None})
    return out


def put(name, value):
    return lambda tensors: tensors[name].__setitem__((0, 1), value)


def narrower(tensors):
    for kind in ("mean", "deviation"):
        tensors[f"skip32.{kind}"] = tensors[f"skip32.{kind}"][:, :-1].copy()


@pytest.mark.parametrize(
    "change, about, says",
    [
        (put("skip64.mean", np.nan), {}, "not finite"),
        (put("bottleneck.deviation", np.inf), {}, "not finite"),
        (put("decoder16.deviation", -1e-3), {}, "deviations below 0"),
        (lambda tensors: tensors["tone"].__setitem__(2, np.nan), {}, "not finite"),
        (lambda tensors: tensors.update(tone=tensors["tone"][:3].copy()), {}, "damaged"),
        (put("skip32.mean", 0), dict(weights=None), "not a style file"),
        (put("skip32.mean", 0), dict(format=None), "not a style file"),
        (put("skip32.mean", 0), dict(digest=None), "damaged"),
        (put("skip32.mean", 0), dict(digest="0" * 16), "damaged"),
    ],
)
def test_a_style_file_whose_numbers_are_no_statistics_is_refused(tmp_path, change, about, says):
    model = MambaMuse(widths=NARROW, axis="clip")
    Style.of(model, noise(np.random.default_rng(0), 3_000)).save(tmp_path / "a.style")
    assert Style.load(
        rewritten(tmp_path / "a.style", tmp_path / "b.style", put("skip32.mean", 0))
    ).statistics.shape == (2, Style.load(tmp_path / "a.style").statistics.shape[1])
    with pytest.raises(InputError, match=f"^[^\n]*b.style: .*{says}[^\n]*$"):
        Style.load(rewritten(tmp_path / "a.style", tmp_path / "b.style", change, **about))


def test_a_style_file_with_other_channels_is_refused_where_it_is_used(tmp_path):
    model = MambaMuse(widths=NARROW, axis="clip")
    x = noise(np.random.default_rng(0), 3_000)
    Style.of(model, x).save(tmp_path / "a.style")
    one, other = (
        Style.load(tmp_path / "a.style"),
        Style.load(rewritten(tmp_path / "a.style", tmp_path / "b.style", narrower)),
    )
    with pytest.raises(InputError, match="b.style: this style has .* channels, and the network"):
        model.transfer(x, tmp_path / "b.style")
    for styles in ((one, other), (other, one)):
        with pytest.raises(InputError, match="channels, .*; they cannot be mixed"):
            mix([(style, 0.5) for style in styles])


def test_a_style_of_another_number_of_sets_is_refused_where_it_is_used(tmp_path):
    "Even if its file says that it was made with the same weights."
    model = MambaMuse(widths=NARROW, axis="clip", sets=2)
    x = noise(np.random.default_rng(0), 3_000)
    own = Style.of(model, x)
    for sets in (1, 3):
        statistics = np.repeat(own.statistics[[0, 2]], sets, 0)
        other = Style(statistics, own.tone, own.places, own.weights, "other")
        assert other.sets == sets
        other.save(tmp_path / "other.style")
        for style in (other, tmp_path / "other.style"):
            with pytest.raises(InputError, match=f"this style has sets {sets}, and the network 2"):
                model.transfer(x, style)
        for styles in ((own, other), (other, own)):
            with pytest.raises(InputError, match="has sets .*; they cannot be mixed"):
                mix([(style, 0.5) for style in styles])
    Style(own.statistics[:0], own.tone, own.places, own.weights).save(tmp_path / "none.style")
    with pytest.raises(InputError, match="none.style: this style file is damaged"):
        Style.load(tmp_path / "none.style")


def test_shares_make_one_whole_and_a_third_may_be_rounded():
    a, b = (Style(np.full((2, 3), value, np.float32), FLAT - value, {}, "w") for value in (1, 4))
    assert np.array_equal(mix(zip((a, b), (0.75, 0.25))).statistics, np.full((2, 3), 1.75))
    assert np.allclose(mix(zip((a, b), (0.75, 0.25))).tone, FLAT - 1.75)
    assert np.array_equal(mix([(a, 0.33), (b, 0.33), (a, 0.33)]).statistics, np.full((2, 3), 2))


@pytest.mark.parametrize(
    "shares",
    [
        (0, 0),
        (0.3, 0.3),
        (1, 3),
        (0.5, 0.52),
        (-1, 2),
        (np.nan, 1),
        (np.inf, 1),
        ("1", 1),
        (None, 1),
        ([1], 1),
        (1j, 1),
        (10**400, 1),
    ],
)
def test_shares_that_are_none(shares):
    a = Style(np.ones((2, 3), np.float32), FLAT, {}, "w")
    with pytest.raises(
        InputError, match="^the shares of a mix are .*, expected numbers of at least 0 whose sum is 1$"
    ):
        mix([(a, share) for share in shares])
    for none in ([], [a], [("a.style", 1)], [(a,)], None, 3):
        with pytest.raises(InputError, match="there is no style to mix|made of (pairs|a list)"):
            mix(none)


@pytest.mark.parametrize("network", [3, 0, "clip", None])
def test_what_is_no_network_is_named(network):
    sound = np.ones(3_000, np.float32)
    for use in (lambda: Style.of(network, sound), lambda: style_of(sound, network)):
        with pytest.raises(InputError, match="network is .*, expected a MambaMuse"):
            use()
    if network is not None:
        with pytest.raises(InputError, match="network is .*, expected a MambaMuse"):
            transfer(sound, sound, network=network)


def test_the_average_of_styles_is_a_mix_of_equal_shares():
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis="clip")
    sounds = noise(rng, 3_000), noise(rng, 5_000)
    a, b = (Style.of(model, sound) for sound in sounds)
    assert abs(a.statistics - b.statistics).max() > 1e-4
    for got, share in ((Style.of(model, *sounds), 0.5), (mix([(a, 0.3), (b, 0.7)]), 0.3)):
        assert abs(got.statistics - share * a.statistics - (1 - share) * b.statistics).max() < 1e-6


@pytest.mark.parametrize("axis, alphas", [("frame", ENCODER), ("clip", EVERYWHERE)])
def test_a_file_transferred_is_the_array_transferred(tmp_path, axis, alphas):
    rng, model = (
        np.random.default_rng(0),
        MambaMuse(widths=NARROW, axis=axis, alphas=tuple(map(float, alphas))),
    )
    model.save_pretrained(tmp_path / "w")
    (
        save(tmp_path / "x.wav", noise(rng, 2, 30_000) / 2, 22_050),
        save(tmp_path / "y.wav", noise(rng, 9_000), 44_100),
    )
    written, rate = load(
        transfer_file(
            tmp_path / "x.wav", tmp_path / "y.wav", tmp_path / "out.wav", alpha=0.7, weights=tmp_path / "w"
        )
    )
    x, style = load(tmp_path / "x.wav")[0], resample(load(tmp_path / "y.wav")[0], 44_100, 22_050)
    by_path = model.transfer(tmp_path / "x.wav", tmp_path / "y.wav", 0.7)
    assert (
        rate == 22_050 and written.shape == (2, 30_000) and abs(written - by_path).max() <= 2**-15 + 1e-6
    )  # one step of 16 bits
    assert (
        abs(model.transfer(x, style, 0.7, 22_050) - by_path).max() < 0.02
    )  # but for resampling the style twice


def test_features_do_not_stay_in_memory(tmp_path):
    """Twenty seconds more hold 51 MB of the encoder's features, and the process grows by what the sound
    itself takes.
    """
    MambaMuse(widths=(16, 32, 64, 128), axis="clip").save_pretrained(tmp_path / "w")
    code = (
        "import sys, resource, torch; torch.set_num_threads(1); import mambamuse.use.transfer as pipeline;"
        " from mambamuse.use import stages; stages.IN_MEMORY = 2**16\nfrom mambamuse.use.files import"
        " transfer_file\ntransfer_file(*sys.argv[1:4], weights=sys.argv[4], force=True);"
        " print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks, rng = [], np.random.default_rng(0)
    save(tmp_path / "y.wav", noise(rng, 9_000), 16_000)
    for seconds in (2, 22):
        save(tmp_path / f"{seconds}.wav", noise(rng, seconds * 16_000) / 2, 16_000)
        words = (tmp_path / f"{seconds}.wav", tmp_path / "y.wav", tmp_path / "out.wav", tmp_path / "w")
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 30_000, peaks  # kB


def test_a_stream_takes_a_style():
    rng, model = np.random.default_rng(0), MambaMuse(widths=NARROW, axis="clip").for_inference()
    style, block = Style.of(model, noise(rng, 9_000)), noise(rng, 512)
    one, other = (Stream(model, given).push(block) for given in (style, style.pairs()))
    assert len(one) and np.array_equal(one, other)


def test_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, run = np.random.default_rng(0), lambda *words: CliRunner().invoke(app, words)
    MambaMuse(widths=NARROW, axis="clip").save_pretrained("w")
    save("x.wav", noise(rng, 8_000) / 2, 16_000), save("y.wav", noise(rng, 9_000), 16_000)
    for words in (
        ("style", "y.wav", "x.wav", "-o", "a.style", "--weights", "w"),
        ("style", "--mix", "a.style=0.3", "a.style=0.7", "-o", "b.style"),
        ("transfer", "x.wav", "b.style", "-o", "out.wav", "--weights", "w"),
    ):
        assert run(*words).exit_code == 0
    said = run("live", "b.style", "--content", "x.wav", "-o", "live.wav", "--block", "1008", "--weights", "w")
    assert json.loads(said.stdout)["blocks"] == 9 and len(load("live.wav")[0][0]) == 8_000
    for words, message in [
        (("style", "--mix", "a.style", "-o", "c.style"), "share"),
        (("transfer", "x.wav", "absent.style", "--weights", "w"), "absent.style"),
        (("live", "a.style", "--content", "x.wav", "--alpha", "2", "--weights", "w"), "alpha"),
        (
            ("live", "a.style", "--content", "x.wav", "--block", "64", "-o", "no/out.wav", "--weights", "w"),
            "folder",
        ),
        (("live", "a.style", "--weights", "w"), "--content"),
    ]:
        failed = run(*words).exception
        assert isinstance(failed, InputError) and message in str(failed), (
            failed
        )  # main() makes one line of it
    assert not (tmp_path / "c.style").exists()
