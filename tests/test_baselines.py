"""The baselines: known answers, what all of them promise, and input at the edge."""

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from mambamuse.judge.baselines import (
    EPS,
    METHODS,
    constrain,
    envelope,
    musaicing,
    rms,
    spectral_envelope,
    stft,
    update,
)
from mambamuse.sound.audio import CLIP, SAMPLE_RATE

rng = np.random.default_rng(0)
NOISE = rng.normal(size=CLIP).astype(np.float32)
HERTZ = np.fft.rfftfreq(2_048, 1 / SAMPLE_RATE)


def note(hertz, seconds, partials=6, decay=1.0):
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return sum(np.sin(2 * np.pi * k * hertz * t) / k for k in range(1, partials + 1)).astype(
        np.float32
    ) * np.exp(-decay * t).astype(np.float32)


CONTENT, STYLE = (
    0.3 * note(262, 2.1),
    0.1 * np.concatenate([note(196, 0.7, 12, 4), note(294, 0.7, 12, 4), note(247, 0.7, 12, 4)]),
)


def magnitude(x):
    return np.abs(stft(x, 2_048, 512))


def convergence(x, y):
    return np.linalg.norm(magnitude(x) - magnitude(y)) / np.linalg.norm(magnitude(y))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_output_has_the_contents_length_and_level_and_is_the_same_twice(method):
    out = method(CONTENT, STYLE)
    assert out.shape == CONTENT.shape and out.dtype == np.float32
    assert rms(out) == pytest.approx(rms(CONTENT), rel=1e-4)
    assert np.array_equal(out, method(CONTENT, STYLE))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("gain", [1e-3, 20])
def test_gain_of_the_content_is_kept_and_of_the_style_ignored(method, gain):
    out = method(CONTENT, STYLE)
    assert rms(method(np.float32(gain) * CONTENT, STYLE) / gain - out) < 1e-3 * rms(out)
    assert rms(method(CONTENT, np.float32(gain) * STYLE) - out) < 1e-3 * rms(out)


@pytest.mark.parametrize(
    "name, by_content, by_style",
    [("CP-CONTENT", -1, 1), ("CP-STYLE", 1, -1), ("envelope", -1, 1), ("musaicing", 1, -1)],
)
def test_polarity_comes_from_whose_phases_are_used(name, by_content, by_style):
    method = METHODS[name]
    out = method(CONTENT, STYLE)
    assert np.allclose(method(-CONTENT, STYLE), by_content * out, atol=1e-6) and np.allclose(
        method(CONTENT, -STYLE), by_style * out, atol=1e-6
    )


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("time", [1, 700, 2_049, CLIP])
@pytest.mark.parametrize("style_time", [1, 700, CLIP + 5_000])
@pytest.mark.filterwarnings("error")
def test_any_length_and_silence_are_finite_and_without_a_warning(method, time, style_time):
    x, y = np.resize(CONTENT, time) + np.float32(0.01), np.resize(STYLE, style_time) + np.float32(0.01)
    for content, style in ((x, y), (0 * x, y), (x, 0 * y), (0 * x, 0 * y)):
        out = method(content, style)
        assert out.shape == (time,) and np.isfinite(out).all()
        assert content.any() or not out.any()


def test_a_silent_style_gives_the_content_or_silence():
    silence = np.zeros_like(STYLE)
    assert convergence(METHODS["envelope"](CONTENT, silence), CONTENT) < 1e-3
    assert (
        not METHODS["CP-STYLE"](CONTENT, silence).any() and not METHODS["musaicing"](CONTENT, silence).any()
    )


def test_a_short_style_is_repeated_and_a_long_one_cut():
    short, long = STYLE[:5_000], np.concatenate([STYLE, NOISE])
    for style, like in ((short, np.concatenate([short] * 7)[:CLIP]), (long, STYLE)):
        out = METHODS["CP-STYLE"](CONTENT, style)
        assert np.allclose(out, like * rms(CONTENT) / rms(like), atol=1e-6)


def test_envelope_of_a_sound_matched_with_itself_is_the_sound():
    for x in (CONTENT, NOISE):
        assert rms(spectral_envelope(x, x) - x) < 1e-3 * rms(x)


def test_envelope_gives_white_noise_the_styles_spectrum():
    style = sosfilt(
        butter(2, [500, 2_000], "band", fs=SAMPLE_RATE, output="sos"), rng.normal(size=CLIP)
    ).astype(np.float32)

    def db(x):
        return 10 * np.log10(envelope(stft(x, 2_048, 512), 2_048, 1.5))

    inside = (HERTZ > 300) & (HERTZ < 3_000)
    assert np.abs(db(spectral_envelope(NOISE, style)) - db(style))[inside].max() < 2
    assert np.abs(db(NOISE) - db(style))[inside].max() > 6  # there was something to do


def test_envelope_keeps_every_onset_and_pitch():
    "It is one filter: the output's spectrum is the content's times the same gain in every frame."
    out, ratio = spectral_envelope(CONTENT, STYLE), []
    x, y = magnitude(CONTENT), magnitude(out)
    for k in range(1, 7):
        bin_ = round(k * 262 / SAMPLE_RATE * 2_048)
        ratio = y[bin_, 3:-3] / x[bin_, 3:-3]
        assert ratio.std() / ratio.mean() < 0.02


def test_the_gain_is_limited():
    """From one frequency to another the gain changes by twice the limit at most, though the style has no
    treble at all.
    """
    dull = np.sin(2 * np.pi * 200 * np.arange(CLIP) / SAMPLE_RATE).astype(np.float32)

    def span(limit):
        gain = magnitude(spectral_envelope(NOISE, dull, limit=limit)).mean(1) / magnitude(NOISE).mean(1)
        return 20 * np.log10(gain.max() / gain.min())

    assert span(5) == pytest.approx(10, abs=0.5) and span(10) == pytest.approx(20, abs=0.5) and span(200) > 40


def test_divergence_never_increases_under_updates():
    V, W = (
        np.abs(stft(CONTENT, 2_048, 1_024)).astype(np.float64) + 1e-3,
        np.abs(stft(STYLE, 2_048, 1_024)).astype(np.float64) + 1e-3,
    )
    H, last = rng.random((W.shape[1], V.shape[1])), np.inf
    for _ in range(40):
        WH = W @ H + EPS
        divergence = (V * np.log(V / WH) - V + WH).sum()
        assert divergence <= last * (1 + 1e-9)
        H, last = update(H, V, W), divergence
    assert (H >= 0).all()


def test_constraints_by_hand():
    H = np.zeros((6, 7))
    H[1, 2:5] = 3, 4, 2
    H[4, 3] = 1
    H[5, 6] = 9
    assert np.array_equal(constrain(H, 1, 3, 10, 0), H)
    assert constrain(H, 0, 1, 6, 0)[1].tolist() == [0, 0, 0, 4, 0, 0, 0]
    assert constrain(H, 0, 0, 1, 0)[:, 3].tolist() == [0, 4, 0, 0, 0, 0]
    summed = constrain(H, 1, 0, 6, 1)
    assert (
        summed[2, 4] == 4 + 0
        and summed[1, 3] == 4
        and summed[0, 2] == 4
        and summed[5, 4] == 1
        and summed[4, 5] == 9
    )
    assert summed.sum() == H[1].sum() * 3 + 3 * 1 + 2 * 9  # the last has left the array once


def test_musaicing_of_a_sound_with_itself_has_its_magnitudes():
    for x in (STYLE, NOISE):
        assert convergence(musaicing(x, x), x) < 0.05


def test_musaicing_picks_the_note():
    """A style of two notes, a content that alternates them in another timbre: each stretch of the output has
    the content's fundamental.
    """
    style = np.concatenate([note(262, 1.05, 12, 0), note(370, 1.05, 12, 0)])
    pitches = [262, 370, 262, 370]
    out = musaicing(np.concatenate([note(p, 0.525, 4, 0) for p in pitches]), style)
    for i, hertz in enumerate(pitches):
        middle = out[int((i + 0.25) * 0.525 * SAMPLE_RATE) :][:4_096]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(4_096)))
        level = {p: spectrum[round(p / SAMPLE_RATE * 4_096) - 1 :][:3].max() for p in (262, 370)}
        assert level[hertz] > 10 * level[632 - hertz]


def test_musaicing_cannot_play_a_pitch_that_the_style_lacks():
    "The known weakness: there are no transposed templates."
    out = musaicing(note(330, 2.1, 6, 0), note(262, 2.1, 12, 0))
    spectrum = np.abs(np.fft.rfft(out[:32_000] * np.hanning(32_000)))
    assert spectrum[520:530].max() > 20 * spectrum[655:665].max()  # 0.5 Hz a bin


@pytest.mark.parametrize("faint", ["content", "style"])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_fainter_than_float32_can_scale_is_silence_not_nan(name, faint):
    "A level of 1e-40: 0.5 divided by it is infinite in float32."
    sounds = {kind: (np.sin(np.arange(8_000) / 9) / 2).astype(np.float32) for kind in ("content", "style")}
    sounds[faint] = (1e-40 * sounds[faint]).astype(np.float32)
    output = METHODS[name](**sounds)
    assert np.isfinite(output).all() and abs(output).max() <= 0.8
