"""The metrics on cases whose answer is known, against second writings and the libraries that have them, and
on what should not change them.
"""

import auraloss
import librosa
import mir_eval
import numpy as np
import pytest
import scipy.linalg
import torch

from mambamuse.errors import InputError
from mambamuse.judge.metrics import (
    METRICS,
    Metric,
    abs_corr,
    chroma,
    chroma_cosine,
    fad_infinity,
    frechet_distance,
    log_mel,
    loudness_difference,
    lsd,
    lsd_cifka,
    lsd_cifka_50,
    mean_mfcc,
    measure,
    mfcc_distance,
    mr_stft,
    onset_f1,
    onsets,
    si_sdr,
)
from mambamuse.judge.pitch import PITCH_METRICS, RANGE, jaccard_distance, melody, notes, pitch_distance, track

pytestmark = pytest.mark.filterwarnings("error")
ALL = METRICS + PITCH_METRICS
RNG = np.random.default_rng(0)


def tone(midi, seconds=2.1, harmonics=8):
    t, f = np.arange(round(seconds * 16_000)) / 16_000, 440 * 2 ** ((midi - 69) / 12)
    return (
        0.4 * sum(np.sin(2 * np.pi * f * k * t) / k for k in range(1, harmonics + 1)) * np.minimum(1, 100 * t)
    ).astype(np.float32)


def value(metric, output, reference):
    result = metric.function(output, reference)
    return result[metric.name] if isinstance(result, dict) else result


C4, C_SHARP, NOISE, SILENCE = (
    tone(60),
    tone(61),
    (0.1 * RNG.normal(size=33_600)).astype(np.float32),
    np.zeros(33_600, np.float32),
)
FLAW = dict(
    si_sdr=(100, -100),
    **{
        name: (1, 0)
        for name in ("onset_f1", "chroma_cosine", "abs_corr_content", "rpa", "rca", "voicing_recall")
    },
)  # same, silent


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.name)
def test_the_same_signal_and_its_flip_score_best(metric):
    best = FLAW.get(metric.name, (0,))[0]
    for x in (C4, NOISE, np.float32(0.05) + C4):
        if metric.function is melody and x is NOISE:
            continue  # no pitch to recall, see the next test
        assert value(metric, x, x) == pytest.approx(best, abs=1e-5)
        assert value(metric, -x, x) == pytest.approx(best, abs=1e-5)


SILENT = {  # (silence for a tone, a tone for silence, silence for silence); None: some finite number above 1
    **{
        name: (None, None, 0)
        for name in (
            "lsd_cifka",
            "lsd_cifka_50",
            "lsd",
            "mr_stft",
            "log_mel",
            "mfcc_distance",
            "loudness_difference",
        )
    },
    "onset_f1": (0, 0, 1),
    "chroma_cosine": (0, 0, 1),
    "si_sdr": (-100, -100, -100),
    "abs_corr_content": (0, 0, 0),
    "rpa": (0, 0, 1),
    "rca": (0, 0, 1),
    "voicing_recall": (0, 0, 1),
    "voicing_false_alarm": (0, 1, 0),
    "f0_difference": (RANGE, RANGE, 0),
    "pitch_distance": (1, 1, 0),
}


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.name)
def test_silence_on_either_side_has_a_value(metric):
    for pair, expected in zip(
        ((SILENCE, C4), (C4, SILENCE), (SILENCE, SILENCE)), SILENT[metric.name], strict=True
    ):
        got = value(metric, *pair)
        assert np.isfinite(got) and isinstance(got, float)
        if expected is None:
            assert got > 1
        else:
            assert got == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("metric", ALL, ids=lambda m: m.name)
def test_other_lengths_are_padded_or_cut(metric):
    "The reference decides; a few samples are enough, and nothing warns."
    assert value(metric, np.pad(C4, (0, 900)), C4) == value(metric, C4, C4)
    assert value(metric, C4[:30_000], C4) == value(metric, np.pad(C4[:30_000], (0, 3_600)), C4)
    assert np.isfinite(value(metric, C4[:7], C4[:5])) and np.isfinite(value(metric, C4[:3], C4))


@pytest.mark.parametrize(
    "name", [m.name for m in ALL if m.name not in ("mr_stft", "log_mel", "loudness_difference")]
)
def test_blind_to_gain(name):
    metric = next(m for m in ALL if m.name == name)
    other = tone(64) + 0.01 * NOISE
    assert value(metric, 0.1 * other, C4) == pytest.approx(value(metric, other, C4), rel=2e-3, abs=2e-3)
    assert value(metric, other, 0.1 * C4) == pytest.approx(value(metric, other, C4), rel=2e-3, abs=2e-3)


def test_gain_where_it_counts():
    assert (
        log_mel(0.5 * NOISE, NOISE)
        == pytest.approx(20 * np.log10(2), abs=1e-3)
        == loudness_difference(0.5 * NOISE, NOISE)
    )
    assert mr_stft(0.5 * NOISE, NOISE) == pytest.approx(0.5 + np.log(2), abs=1e-4)


@pytest.mark.parametrize(
    "bad",
    [np.ones((2, 9_000)), np.ones(0), np.full(9_000, np.nan), np.full(9_000, np.inf)],
    ids=["stereo", "empty", "nan", "inf"],
)
def test_what_is_not_a_clip_is_refused(bad):
    for pair in ((bad, C4), (C4, bad)):
        with pytest.raises(InputError):
            lsd(*pair)


# One semitone, noise


def test_a_semitone_is_seen_by_everything_that_hears_pitch():
    found = {m.name: value(m, C_SHARP, C4) for m in ALL}
    assert found["rpa"] == found["rca"] == 0 and found["f0_difference"] == pytest.approx(100, abs=5)
    assert (
        found["pitch_distance"] > 0.98
        and found["chroma_cosine"] < 0.35
        and found["voicing_recall"] == found["onset_f1"] == 1
    )
    assert found["lsd_cifka"] > 10 and found["abs_corr_content"] < 0.05 and found["loudness_difference"] < 0.2


def test_noise_for_a_tone():
    found = {m.name: value(m, NOISE, C4) for m in ALL}
    assert (
        found["rpa"] == found["voicing_recall"] == 0
        and found["f0_difference"] == RANGE
        and found["pitch_distance"] > 0.98
    )
    assert (
        found["lsd_cifka"] > 20
        and found["abs_corr_content"] < 0.05
        and found["si_sdr"] < -30
        and found["chroma_cosine"] < 0.6
    )


# Second writings and libraries


def test_lsd_against_librosa_alone():
    def decibels(x, top_db=80):
        return librosa.power_to_db(
            librosa.feature.melspectrogram(y=x / np.sqrt(np.mean(x**2)), sr=16_000), top_db=top_db
        )

    difference = decibels(C_SHARP) - decibels(C4 + 0.01 * NOISE)
    assert lsd_cifka(C_SHARP, C4 + 0.01 * NOISE) == pytest.approx(
        np.sqrt((difference**2).mean(axis=1)).mean(), abs=1e-3
    )
    assert lsd(C_SHARP, C4 + 0.01 * NOISE) == pytest.approx(
        np.sqrt((difference**2).mean(axis=0)).mean(), abs=1e-3
    )
    assert lsd_cifka_50(C_SHARP, C4) == pytest.approx(
        np.sqrt(((decibels(C_SHARP, 50) - decibels(C4, 50)) ** 2).mean(axis=1)).mean(), abs=1e-3
    )


def test_spectra_against_auraloss_and_librosa():
    theirs = auraloss.freq.MultiResolutionSTFTLoss(
        fft_sizes=[1_024, 2_048, 8_192], hop_sizes=[256, 512, 2_048], win_lengths=[1_024, 2_048, 8_192]
    )
    pair = NOISE, C4 + 0.5 * NOISE[::-1]
    assert mr_stft(*pair) == pytest.approx(
        theirs(*(torch.tensor(x.copy())[None, None] for x in pair)).item(), rel=1e-5
    )
    assert mean_mfcc(C4) == pytest.approx(
        librosa.feature.mfcc(y=C4, sr=16_000, n_mfcc=13, hop_length=500)[1:].mean(1), abs=1e-2
    )
    energy = librosa.feature.chroma_stft(y=C4, sr=16_000, n_fft=4_096, hop_length=512, tuning=0, norm=2)
    assert chroma(C4) == pytest.approx(energy, abs=1e-4)


@pytest.mark.parametrize("part", [0.03, 0.3, 3])
def test_si_sdr_against_auraloss_and_whatever_the_sign(part):
    output = C4 + part * NOISE
    theirs = auraloss.time.SISDRLoss()
    assert si_sdr(output, C4) == pytest.approx(
        -theirs(*(torch.tensor(x)[None, None] for x in (output, C4))).item(), abs=1e-2
    )
    assert si_sdr(-5 * output, C4) == pytest.approx(si_sdr(output, C4), abs=1e-4)
    assert abs_corr(output, C4) == pytest.approx(abs(np.corrcoef(output, C4)[0, 1]), abs=1e-6)


def test_constants_correlate_with_nothing():
    constant = np.full(33_600, 0.1, np.float32)
    assert abs_corr(constant, constant) == abs_corr(constant, C4) == abs_corr(C4, constant) == 0


def test_onsets_where_the_notes_begin():
    times = np.array([0.3, 0.8, 1.3, 1.8])
    pluck, x = (
        (tone(60) * np.exp(-12 * np.arange(33_600) / 16_000)).astype(np.float32),
        np.zeros(38_000, np.float32),
    )
    for at in times:
        x[round(at * 16_000) :][:9_000] += pluck[:9_000]
    assert onsets(x) == pytest.approx(times, abs=0.03)
    missing = x.copy()
    missing[round(1.75 * 16_000) :] = 0
    assert onset_f1(missing, x) == pytest.approx(6 / 7) == onset_f1(x, missing)
    assert onset_f1(np.roll(x, 1_600), x) == 0 and onset_f1(np.roll(x, 320), x) == 1  # 100 ms, 20 ms


def test_chroma_forgives_octaves():
    assert chroma_cosine(tone(72), C4) > 0.95 and [
        chroma(tone(m)).sum(1).argmax() for m in range(60, 72)
    ] == list(range(12))


def test_mfcc_distance_grows_with_the_tilt():
    bright, brighter = (np.convolve(C4, [1, -a]).astype(np.float32) for a in (0.5, 0.95))
    assert 0 < mfcc_distance(bright, C4) < mfcc_distance(brighter, C4)


# Pitch


def test_melody_against_mir_eval_on_hand_made_tracks(monkeypatch):
    """The trackers are replaced by tracks of four frames: right, an octave up, unvoiced, and voiced for
    nothing.
    """
    import mambamuse.judge.pitch as pitch

    times = 0.016 * np.arange(4)
    true = times, np.array([220.0, 220, 220, 300]), np.array([True, True, True, False])
    other = times, np.array([222.0, 440, 220, 300]), np.array([True, True, False, True])
    monkeypatch.setattr(pitch, "track", lambda x: true if x[0] else other)
    got = melody(np.zeros(9_000), np.ones(9_000))
    theirs = mir_eval.melody.evaluate(times, true[1] * true[2], times, other[1] * other[2])
    assert (
        (got["rpa"], got["rca"])
        == pytest.approx((theirs["Raw Pitch Accuracy"], theirs["Raw Chroma Accuracy"]))
        == (1 / 3, 2 / 3)
    )
    assert (
        (got["voicing_recall"], got["voicing_false_alarm"])
        == pytest.approx((theirs["Voicing Recall"], theirs["Voicing False Alarm"]))
        == (2 / 3, 1)
    )
    assert got["f0_difference"] == pytest.approx((1_200 + 1_200 * np.log2(222 / 220)) / 2)


@pytest.mark.parametrize("midi", [48, 60, 69, 84])
def test_both_trackers_hear_the_tone(midi):
    times, f0, voiced = track(tone(midi))
    assert voiced.mean() > 0.95 and np.median(1_200 * np.log2(f0[voiced] / 440)) == pytest.approx(
        100 * (midi - 69), abs=5
    )
    assert np.diff(times) == pytest.approx(0.016) and notes(tone(midi)).mean(0).argmax() + 21 == midi


def test_notes_keep_their_place_over_several_windows():
    "A tone from 3 to 5 of 7 seconds: five windows, and the frames of 86 a second where it sounds."
    x = np.zeros(7 * 16_000, np.float32)
    x[3 * 16_000 : 5 * 16_000] = tone(60, 2)
    sure = notes(x)
    on = np.flatnonzero(sure[:, 60 - 21] > 0.3)
    assert (
        sure.shape == (7 * 86, 88) and abs(on[0] - 3 * 86) < 8 and abs(on[-1] - 5 * 86) < 8 and len(on) > 160
    )


def test_chords_lose_a_note():
    chord = tone(60) + tone(65) + tone(69)
    assert (
        0
        == pitch_distance(chord, chord)
        < pitch_distance(tone(60) + tone(65), chord)
        < pitch_distance(tone(60), chord)
        < pitch_distance(tone(61), chord)
    )


def test_jaccard_distance_by_hand_and_by_sklearn():
    from sklearn.metrics import jaccard_score

    a, b = RNG.random((2, 200, 12)) > 0.8
    scores = [jaccard_score(x, y, zero_division=1.0) for x, y in zip(a, b)]
    assert jaccard_distance(a, b) == pytest.approx(1 - np.mean(scores))


def test_remembered_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        track(C4)[1][0] = 0
    with pytest.raises(ValueError, match="read-only"):
        notes(C4)[0] = 0


# Lists


def test_measure_calls_a_shared_function_once_and_leaves_out_what_has_no_clip():
    calls = []

    def both(output, reference):
        calls.append(reference)
        return dict(a=1.0, b=2.0)

    metrics = [
        Metric("a", both, ("content",), "", "lower", ""),
        Metric("b", both, ("content",), "", "lower", ""),
        Metric("c", lsd, ("target", "content"), "dB", "lower", ""),
    ]
    assert measure(metrics[:2], C4, dict(content="a clip", style=C4)) == dict(a=1.0, b=2.0) and calls == [
        "a clip"
    ]
    assert (
        measure(metrics, C4, dict(target=C4, style=NOISE))
        == measure(metrics[2:], C4, dict(content=C4))
        == dict(c=0.0)
    )
    assert measure(metrics[2:], C4, dict(target=C4, content=NOISE)) == dict(c=0.0) and not measure(
        metrics, C4, dict(style=C4)
    )


def test_the_lists_say_what_they_must():
    assert len({m.name for m in ALL}) == len(ALL) == 17
    assert all(
        m.against and set(m.against) <= {"content", "style", "target"} and m.better in ("lower", "higher")
        for m in ALL
    )
    assert all(
        (
            value(m, C4, C4) > value(m, NOISE, C4)
            if m.better == "higher"
            else value(m, C4, C4) <= value(m, NOISE, C4)
        )
        for m in ALL
        if m.name not in ("abs_corr_content", "onset_f1")
    ), "the direction"


# Sets


def white(n, d, seed):
    x = np.random.default_rng(seed).normal(size=(n, d))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


def test_frechet_distance_known_and_by_sqrtm():
    x, y, shift, sigma, tau = (
        white(100, 6, 0),
        white(150, 6, 1),
        np.arange(6),
        np.linspace(0.1, 2, 6),
        np.linspace(1, 0.5, 6),
    )
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x + shift, y) == pytest.approx((shift**2).sum())
    assert frechet_distance(sigma * x, tau * y) == pytest.approx(((sigma - tau) ** 2).sum())
    a, b = x @ RNG.normal(size=(6, 6)), y @ RNG.normal(size=(6, 6)) + 1
    s_a, s_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    theirs = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        s_a + s_b - 2 * scipy.linalg.sqrtm(s_a @ s_b).real
    )
    assert frechet_distance(a, b) == pytest.approx(theirs) == frechet_distance(b, a)
    rotation = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(theirs)


def test_frechet_distance_of_sets_smaller_than_their_dimension():
    few = RNG.normal(size=(4, 32))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-4) and frechet_distance(
        few + 1, few
    ) == pytest.approx(32, abs=1e-3)
    assert frechet_distance(np.zeros((5, 1)), np.ones((5, 1))) == 1


@pytest.mark.parametrize(
    "a, b",
    [
        (np.ones((1, 3)), np.ones((4, 3))),
        (np.ones((4, 3)), np.ones((4, 2))),
        (np.ones(4), np.ones((4, 2))),
        (np.full((4, 2), np.nan), np.ones((4, 2))),
    ],
)
def test_frechet_distance_refuses(a, b):
    with pytest.raises(InputError):
        frechet_distance(a, b)


def test_fad_infinity_is_nearer_to_the_truth():
    "Deviations of 1.5 and 1 in 16 dimensions: distance 16 (1.5 - 1)^2 = 4."
    reference, errors = np.random.default_rng(1).normal(size=(10_000, 16)), []
    for seed in range(6):
        generated = 1.5 * np.random.default_rng((2, seed)).normal(size=(200, 16))
        errors.append(
            [
                f - 4
                for f in (frechet_distance(generated, reference), fad_infinity(generated, reference, seed))
            ]
        )
    plain, extrapolated = np.abs(errors).mean(axis=0)
    assert extrapolated < 0.5 * plain
    assert abs(np.mean(errors, axis=0)[1]) < 0.15 < 0.5 < np.mean(errors, axis=0)[0], "the bias"
    assert (
        fad_infinity(generated, reference, 7)
        == fad_infinity(generated, reference, 7)
        != fad_infinity(generated, reference, 8)
    )
    with pytest.raises(InputError):
        fad_infinity(generated[:7], reference, 0)
