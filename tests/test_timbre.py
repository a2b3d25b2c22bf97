"""The ears: MFCC against librosa, the network against Keras' arithmetic, what the distance must not react to,
and weights that come out again.
"""

import json

import librosa
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from scipy.stats import chi2

from mambamuse.data.notes import MINI, audio_file, read_note, read_notes
from mambamuse.data.soundfonts import FAMILIES, TEST_PROGRAMS
from mambamuse.errors import InputError
from mambamuse.judge.timbre import (
    SHIPPED,
    FamilyNet,
    TimbreNet,
    cosine_distance,
    embed,
    embeddings,
    family,
    family_probabilities,
    mfcc,
    shipped,
    timbre_distance,
    triplet_loss,
)
from mambamuse.judge.timbre_training import KINDS, judged, plans, share, train_family, train_timbre, triplets
from mambamuse.sound.audio import CLIP, SAMPLE_RATE, normalise

NOTES = read_notes(MINI, "test")
SOUNDS = [read_note(audio_file(MINI, "test", note))[:CLIP].astype(np.float32) / 32_768 for note in NOTES]
TABLE = [
    dict(program=p, instrument_family=f, instrument_family_str=FAMILIES[f])
    for p, f in ((0, 4), (1, 4), (40, 8), (41, 8), (73, 2))
]


@pytest.fixture(scope="module")
def x():
    "MFCC of five made-up instruments: a constant each, and noise."
    rng = np.random.default_rng(0)
    return (20 * rng.normal(size=(5, 1, 12, 1)) + 10 * rng.normal(size=(5, 8, 12, 40))).astype(np.float32)


@pytest.mark.parametrize("length", [2_048, 5_000, CLIP, 64_000])
def test_mfcc_is_librosas(length):
    audio = normalise(np.random.default_rng(length).normal(size=length).cumsum().astype(np.float32))[0]
    theirs = librosa.feature.mfcc(y=audio, sr=SAMPLE_RATE, n_mfcc=13, hop_length=500)[1:]
    assert mfcc(audio).shape == theirs.shape == (12, length // 500 + 1)
    assert np.abs(mfcc(audio) - theirs).max() < 1e-4


@pytest.mark.parametrize("length", [1, 2, 499, 2_047])
def test_audio_shorter_than_a_window_is_padded(length):
    audio = np.random.default_rng(0).normal(size=length).astype(np.float32)
    assert np.array_equal(mfcc(audio), mfcc(np.pad(audio, (0, 2_048 - length))))
    assert embeddings(audio).shape == (1, 64)


@pytest.mark.parametrize(
    "audio", [np.zeros(0, np.float32), np.full(CLIP, np.nan, np.float32), np.array([np.inf], np.float32)]
)
@pytest.mark.parametrize(
    "hear", [mfcc, embed, embeddings, family, lambda audio: timbre_distance(SOUNDS[0], audio)]
)
def test_what_is_no_sound_is_named(audio, hear):
    with pytest.raises(InputError, match="^audio: there are"):
        hear(audio)


def test_parameters_as_keras_counts_them():
    state = TimbreNet().state_dict()
    assert sum(t.numel() for t in state.values() if t.is_floating_point()) == 45_312
    assert sum(p.numel() for p in FamilyNet().parameters()) == 44_800 + 65 * len(FAMILIES)


def test_body_is_same_convolution_norm_relu_and_pool():
    "One block by hand, with the running statistics, on a length that the pools do not divide."
    net = shipped(TimbreNet)
    h = x = torch.randn(3, 12, 67)
    for i, width in enumerate((4, 4, 4, 2)):
        p = {k.split(".", 2)[2]: v for k, v in net.state_dict().items() if int(k.split(".")[1]) == 5 * i + 1}
        n = {k.split(".", 2)[2]: v for k, v in net.state_dict().items() if int(k.split(".")[1]) == 5 * i + 2}
        h = F.conv1d(h, p["weight"], p["bias"], padding="same")
        h = F.relu(
            (h - n["running_mean"][:, None])
            / (n["running_var"][:, None] + 1e-5).sqrt()
            * n["weight"][:, None]
            + n["bias"][:, None]
        )
        h = torch.stack([piece.amax(-1) for piece in h.split(width, -1)], -1)
    with torch.inference_mode():
        out = net(x)
    assert torch.allclose(out, h.mean(-1), atol=1e-4) and out.min() >= 0


def test_loss_by_hand():
    e = torch.eye(4)
    assert triplet_loss(e[:1], e[:1], e[1:2]) == 0
    assert abs(triplet_loss(e[:1], e[1:2], e[:1]) - 1.1) < 1e-6
    assert abs(cosine_distance(torch.tensor([1.0, 0]), torch.tensor([3.0, 3])) - (1 - 0.5**0.5)) < 1e-6


def test_distance_is_blind_to_gain_and_sign_and_symmetric():
    a, b = SOUNDS[0], SOUNDS[-1]
    d = timbre_distance(a, b)
    assert (
        d == timbre_distance(-a, b) == timbre_distance(a / 8, b)
        and abs(timbre_distance(a * np.float32(0.3), b) - d) < 1e-4
    )
    assert d == timbre_distance(b, a) and 0.05 < d <= 1
    assert timbre_distance(a, a) == 0 == timbre_distance(a, -a)


def test_silence_has_a_distance():
    silence = np.zeros(CLIP, np.float32)
    assert timbre_distance(silence, silence) == 0 and 0 <= timbre_distance(silence, SOUNDS[0]) <= 1
    assert abs(family_probabilities(silence).sum() - 1) < 1e-5


def test_an_instrument_at_another_pitch_is_nearer_than_others_at_the_same():
    "The test's instruments, which the network has not heard: 4 x 5 notes."
    d = np.array([[timbre_distance(a, b) for b in SOUNDS] for a in SOUNDS])
    who, pitch = (np.array([n[k] for n in NOTES]) for k in ("program", "pitch"))
    assert set(who) <= set(TEST_PROGRAMS)
    same, other = (
        (who[:, None] == who) & (pitch[:, None] != pitch),
        (who[:, None] != who) & (pitch[:, None] == pitch),
    )
    right = np.concatenate([(d[i, same[i]][:, None] < d[i, other[i]]).ravel() for i in range(len(d))])
    assert right.mean() > 0.85 and d[same].mean() < 0.7 * d[other].mean()


def test_embeddings_are_windows_of_the_clips_cepstrum():
    "A clip whose second half is silent: the window there is not blown up to full level."
    sound = SOUNDS[0]
    assert embeddings(sound).shape == (5, 64) and embeddings(sound[:16_000]).shape == (1, 64)
    x = mfcc(sound)
    with torch.inference_mode():
        want = shipped(TimbreNet)(torch.from_numpy(x[None, :, 16:48].copy()))[0]
    assert np.allclose(embeddings(sound)[2], want, atol=1e-5)
    faded = sound.copy()
    faded[8_000:] *= 1e-6
    silence = embeddings(np.zeros(16_000, np.float32))[0]
    assert np.allclose(embeddings(faded)[-1], silence, atol=1e-3)


def test_family_names_the_likeliest():
    p = family_probabilities(SOUNDS[0])
    assert p.shape == (11,) and abs(p.sum() - 1) < 1e-5 and family(SOUNDS[0]) == FAMILIES[p.argmax()]


@pytest.mark.parametrize("kind", KINDS)
def test_triplets_are_what_they_say(kind):
    (a, i), (p, j), (n, k) = triplets(np.random.default_rng(0), TABLE, 8, 2_000, kind)
    program, group = (np.array([t[key] for t in TABLE]) for key in ("program", "instrument_family"))
    assert (
        (a == p).all()
        and (i != j).all()
        and (program[a] != program[n]).all()
        and max(i.max(), j.max(), k.max()) == 7
    )
    assert set(a) == ({0, 1, 2, 3} if kind == "family" else set(range(5)))  # the flute is alone in its family
    assert kind != "family" or (group[a] == group[n]).all()
    assert kind != "notes" or (i == k).all()


def test_plans_of_a_seed_are_the_same_and_of_another_are_not():
    one, same, other = plans(5, 1), plans(5, 1), plans(5, 2)
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(one, same) for k in a)
    assert not any(a["noise"] == b["noise"] for a, b in zip(one, other))
    assert all(
        -90 <= p["noise"] <= -50 and p["lead"] < SAMPLE_RATE and 40 <= p["velocity"] < 128 for p in one
    )


@pytest.mark.parametrize("train", [train_timbre, train_family])
def test_training_again_gives_the_same_bits_and_another_seed_others(train, x):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one, same, other = (train(TABLE, x, 5, seed).state_dict() for seed in (3, 3, 4))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[k], same[k]) for k in one) and not torch.equal(
        one["body.1.weight"], other["body.1.weight"]
    )


def test_training_learns_made_up_instruments(x):
    "From chance for the family to all right; the judge says so."
    rows, confusion = judged(train_timbre(TABLE, x, 60, 0), train_family(TABLE, x, 60, 0), TABLE, x, 300)
    assert confusion.sum() == 40 and confusion.trace() >= 38
    network = {r["kind"]: r for r in rows if r.get("by") == "network"}
    assert set(network) == set(KINDS) and all(
        r["accuracy"] > 0.95 and r["same"] < r["other"] for r in network.values()
    )


def test_the_interval_of_a_share_covers_the_truth_as_often_as_it_should():
    "200 experiments of 60 instruments of 10 triplets that share their instrument's chance."
    rng = np.random.default_rng(0)
    group = np.arange(60).repeat(10)
    hits = 0
    for _ in range(200):
        right = (rng.random(600) < rng.beta(6, 2, 60)[group]).astype(float)
        _, low, high = share(right, group)
        hits += low <= 0.75 <= high
    off = (hits - 190) ** 2 / (200 * 0.95 * 0.05)
    assert off < chi2.ppf(0.9999, 1), hits


def test_the_files_tell_where_they_come_from():
    results = json.loads((SHIPPED / "results.json").read_text())
    for net, steps in ((TimbreNet, results["steps"]), (FamilyNet, results["family_steps"])):
        with safe_open(SHIPPED / f"{net.name}.safetensors", "pt") as file:
            about = json.loads(file.metadata()["about"])
        assert about["steps"] == steps and about["seed"] == results["seed"]
        assert about["fonts"].items() < results["soundfonts"].items()
        measure, by = ("triplets", "network") if net is TimbreNet else ("family", None)
        for name, value in about["accuracy"].items():
            assert value == next(
                r["accuracy"]
                for r in results["rows"]
                if r["set"] == name
                and r["measure"] == measure
                and r.get("by") == by
                and r.get("kind", "any") == "any"
            )
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1_000_000
