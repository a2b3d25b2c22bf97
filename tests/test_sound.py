"""What a musician hears at once: no click at the ends, the image, the level, alpha 0, silence; with the
shipped weights, in files, Python and live.
"""

import csv
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile as sf

from mambamuse.errors import InputError
from mambamuse.model.weights import load_model
from mambamuse.sound.audio import SAMPLE_RATE, load, resample
from mambamuse.use.files import transfer_file
from mambamuse.use.live import live_file, live_step
from mambamuse.use.step import Carried
from mambamuse.use.style import Style, packaged
from mambamuse.use.transfer import transfer

TEST_SETS = Path(str(files("mambamuse") / "test_sets"))
EDGE = SAMPLE_RATE * 5 // 1_000  # samples: 5 ms
FLOOR = 10 ** (-70 / 20)  # what is fainter is no click
PAIRS = [(name, at) for name in ("notes", "phrases") for at in (3, 20, 41)]
LOUD_STARTS = [
    *(("notes", at) for at in (5, 11, 13, 21, 34, 39)),
    *(("phrases", at) for at in (2, 12, 13, 43, 49)),
]  # of the model, before they are held


def pairs_of(name):
    "The lines of the test set `name`."
    with open(TEST_SETS / name / "pairs.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def network():
    return Carried()


@pytest.fixture(scope="module")
def pairs(network):
    "Content `(1, time)` and style of some pairs of both test sets."
    found = {}
    for name, at in PAIRS + LOUD_STARTS:
        row = pairs_of(name)[at]
        folder = TEST_SETS / name
        found[name, at] = load(folder / row["content"])[0], Style.of(network, folder / row["style"])
    return found


def decibels(x):
    return 20 * np.log10(max(np.abs(x).max(), FLOOR))


def rise(x, at_end):
    """By how many decibels the first or last 5 ms of `x (time,)` stand above the loudest of the ten pieces of
    5 ms beside them.
    """
    x = x[::-1] if at_end else x
    beside = max(decibels(x[EDGE * k : EDGE * (k + 1)]) for k in range(1, 11))
    return decibels(x[:EDGE]) - beside


def excess(y, x, at_end):
    "What `rise` of an output is beyond its content's."
    return rise(y, at_end) - max(rise(x, at_end), 0)


def cuts(x):
    "A recording `(1, time)`: as it is, cut hard at both ends, cut in mid-note, ending in silence."
    middle = x.shape[1] // 2
    return dict(
        whole=x,
        hard=x[:, 2_037:middle],
        mid_note=x[:, : middle // 2 + 11],
        silence=np.pad(x[:, :8_000], ((0, 0), (3_000, 8_000))),
    )


@pytest.mark.parametrize("pair", PAIRS + LOUD_STARTS, ids=str)
def test_no_click_at_the_ends(pairs, pair):
    "`benchmarks/ends.py` counts over all pairs."
    content, style = pairs[pair]
    network = load_model().network()
    for kind, x in cuts(content).items():
        y = transfer(x, style, network=network)
        assert max(excess(y[0], x[0], end) for end in (False, True)) <= 1, kind


@pytest.mark.parametrize("pair", PAIRS[::2], ids=str)
def test_no_click_live(pairs, tmp_path, pair):
    "What ends in silence ends in silence, too; the last sample is no step."
    content, style = pairs[pair]
    style.save(tmp_path / "a.style")
    live = live_step(tmp_path / "a.style", 1.0, 256, False, None)
    x = np.pad(content[0, :16_000], (2_000, 8_000))
    x = np.pad(x, (0, -len(x) % 256 + 512))
    y = np.concatenate([live(block) for block in x.reshape(-1, 256)])[live.delay :]
    assert excess(y, x[: len(y)], False) <= 1 and not y[-1_000:].any()


def test_both_engines_give_the_same(pairs, network):
    "ONNX Runtime and compiled, mono and stereo; the package's own choice is the latter."
    content, style = pairs["phrases", 20]
    compiled = packaged()
    assert type(network) is Carried and compiled.is_compiled
    for x in (content, np.concatenate([content, 0.3 * content[:, ::-1]])):
        got, want = (transfer(x, style, network=engine) for engine in (network, compiled))
        assert abs(got - want).max() <= 1e-5


def test_the_image_of_stereo(pairs, network):
    content, style = pairs["phrases", 20]
    for right in (10 ** (-3.5 / 20), 0.1):
        x = np.concatenate([content, right * content])
        y = transfer(x, style, network=network)
        db = 10 * np.log10((y.astype(float) ** 2).mean(1))
        assert abs(db[0] - db[1] + 20 * np.log10(right)) <= 0.5
    equal = transfer(np.concatenate([content, content]), style, network=network)
    assert np.array_equal(equal[0], equal[1])
    one_sided = transfer(np.concatenate([content, 0 * content]), style, network=network)
    assert not one_sided[1].any() and one_sided[0].any()


def test_other_notes_left_and_right(pairs, network):
    "Two recordings, one on each side, 12 dB apart."
    left, style = pairs["phrases", 20]
    right, _ = pairs["phrases", 41]
    time = min(left.shape[1], right.shape[1])

    def power(x):
        return 10 * np.log10((x.astype(float) ** 2).mean())

    x = np.concatenate(
        [left[:, :time], right[:, :time] * 10 ** ((power(left[:, :time]) - power(right[:, :time]) - 12) / 20)]
    ).astype(np.float32)
    y = transfer(x, style, network=network)
    assert abs(power(y[0]) - power(y[1]) - 12) <= 1.5


@pytest.mark.parametrize("pair", PAIRS[1::2], ids=str)
def test_as_loud_as_the_content(pairs, network, pair):
    content, style = pairs[pair]
    content = 0.1 * content
    y = transfer(content, style, network=network)
    meter = pyloudnorm.Meter(SAMPLE_RATE, "DeMan")
    assert (
        abs(meter.integrated_loudness(y.T.astype(float)) - meter.integrated_loudness(content.T.astype(float)))
        <= 0.05
    )
    kept = transfer(content, style, network=network, keep_level=True)
    assert (
        np.allclose(kept / abs(kept).max(), y / abs(y).max(), atol=1e-4) and abs(kept).max() != abs(y).max()
    )


@pytest.mark.parametrize("decibel", [0, -20, -40, -60])
def test_the_level_does_not_matter(pairs, network, decibel):
    "Of the content and of the style."
    content, style = pairs["notes", 20]
    x, gain = content / abs(content).max(), 10 ** (decibel / 20)
    want = transfer((0.1 * x).astype(np.float32), style, network=network)
    got = transfer((gain * x).astype(np.float32), style, network=network)
    assert abs(got / abs(got).max() - want / abs(want).max()).max() <= 1e-3
    assert (
        decibel == 0 or abs(abs(got).max() / abs(want).max() / gain / 10 - 1) <= 1e-3
    )  # at full scale it may be quieter, so as not to clip
    sound = load(TEST_SETS / "notes" / pairs_of("notes")[20]["style"])[0]
    soft = Style.of(network, (gain * sound).astype(np.float32))
    assert abs(soft.statistics - style.statistics).max() <= 1e-3 * abs(style.statistics).max()


def loudness_of_difference(a, b):
    return 10 * np.log10(((a - b) ** 2).mean() / (b**2).mean())


def test_a_click_does_not_matter(pairs, network):
    "One sample at full scale in a recording at -40 dB: in the style, and in the content."
    content, style = pairs["phrases", 20]
    sound = load(TEST_SETS / "phrases" / pairs_of("phrases")[20]["style"])[0]
    sound = 0.01 * sound / abs(sound).max()
    sound[0, 9_000] = 1
    want = transfer(content, style, network=network)
    got = transfer(content, sound, network=network)
    assert loudness_of_difference(got, want) < -10
    assert abs(10 * np.log10((got**2).mean() / (want**2).mean())) < 0.5
    x = 0.01 * content / abs(content).max()
    want = transfer(x, style, network=network)
    x[0, 9_000] = 1
    got = transfer(x, style, network=network)
    rest = np.r_[0:8_000, 12_000 : x.shape[1]]
    assert abs(10 * np.log10((got[0, rest] ** 2).mean() / (want[0, rest] ** 2).mean())) < 1


def test_alpha_0_is_the_content(tmp_path, pairs):
    "To the bit, in each sample format; live, late by the delay."
    content, style = pairs["notes", 3]
    style.save(tmp_path / "a.style")
    rng = np.random.default_rng(0)
    for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        sf.write(tmp_path / "x.wav", rng.uniform(-1, 1, (5_000, 2)), 44_100, subtype)
        transfer_file(tmp_path / "x.wav", tmp_path / "a.style", tmp_path / "y.wav", alpha=0.0, force=True)
        a, b = (
            sf.read(tmp_path / f"{name}.wav", dtype="int32" if "PCM" in subtype else "float64")[0]
            for name in "xy"
        )
        assert np.array_equal(a, b) and sf.info(tmp_path / "y.wav").subtype == subtype
    live = live_step(tmp_path / "a.style", 0.0, 256, False, None)
    x = content[0, :10_240]
    y = np.concatenate([live(block) for block in x.reshape(-1, 256)])
    assert np.array_equal(y[live.delay :], x[: -live.delay])


def test_silence_is_silent(pairs, network):
    content, style = pairs["phrases", 3]
    x = np.pad(content[:, :12_000], ((0, 0), (5_000, 16_000)))
    y = transfer(x, style, network=network)
    for start, stop in ((0, 4_900), (5_000 + 12_000 + 2_500, x.shape[1])):
        assert abs(y[:, start:stop]).max() < 10 ** (-90 / 20)
    assert not transfer(np.zeros((2, 9_000), np.float32), style, network=network).any()


@pytest.mark.parametrize("pair", PAIRS[::2], ids=str)
def test_no_constant_part(pairs, network, pair):
    content, style = pairs[pair]
    y = transfer(content, style, network=network)
    assert abs(y.mean()) < 10 ** (-60 / 20) * abs(y).max()


def test_sigterm_leaves_nothing_half_written(tmp_path, pairs):
    "The command is ended while it writes: 40 s of sound take long enough."
    content, style = pairs["phrases", 3]
    style.save(tmp_path / "a.style")
    sf.write(tmp_path / "x.wav", np.tile(content[0], 20), SAMPLE_RATE)
    command = [
        sys.executable,
        "-c",
        "from mambamuse.cli import main; main()",
        "transfer",
        "x.wav",
        "a.style",
        "-o",
        "y.wav",
        "--alpha",
        "0.5",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    time.sleep(3)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.style", "x.wav"]


@pytest.mark.parametrize("keep_level", [False, True])
def test_highs_are_kept_at_the_level_of_the_content(pairs, network, keep_level):
    """What lies above 8.5 kHz has the content's energy; nothing had to be made quieter, since the content is
    at a fifth of full scale.
    """
    content, style = pairs["phrases", 20]
    rng = np.random.default_rng(0)
    x = 0.2 * resample(content, SAMPLE_RATE, 44_100)
    x = (x + 0.01 * rng.standard_normal(x.shape)).astype(np.float32)
    y = transfer(x, style, sample_rate=44_100, network=network, keep_highs=True, keep_level=keep_level)
    above = np.fft.rfftfreq(x.shape[1], 1 / 44_100) > 8_500
    energy = [10 * np.log10((np.abs(np.fft.rfft(sound[0]))[above] ** 2).sum()) for sound in (x, y)]
    assert abs(energy[0] - energy[1]) <= 0.5


def test_live_tells_what_it_clips_and_keeps_the_sample_format(tmp_path, pairs, capsys):
    "At full scale the running gain may go beyond; the file has the content's format and channels."
    content, style = pairs["phrases", 20]
    style.save(tmp_path / "a.style")
    x = content[0, :16_000] / abs(content).max()
    for gain, clips in ((1, True), (0.05, False)):
        sf.write(tmp_path / "x.wav", np.stack([gain * x, gain * x], 1), SAMPLE_RATE, "PCM_24")
        live_file(tmp_path / "x.wav", tmp_path / "a.style", tmp_path / "y.wav", force=True)
        info, said = sf.info(tmp_path / "y.wav"), capsys.readouterr().err
        assert (info.channels, info.subtype) == (2, "PCM_24")
        assert (
            ("lay above full scale and were clipped" in said)
            == clips
            == bool((abs(sf.read(tmp_path / "y.wav")[0]) > 0.9999).any())
        )


@pytest.mark.parametrize("gain", [0.1, 10])
def test_a_microphones_level_changes_the_level_alone(pairs, tmp_path, gain):
    """The network hears the same; what comes out is louder by the gain. The content is far above -60 dBFS,
    below which a level is room noise, and no output reaches full scale.
    """
    content, style = pairs["phrases", 3]
    style.save(tmp_path / "a.style")
    live = live_step(tmp_path / "a.style", 1.0, 256, False, None)
    x = 0.05 * content[0, : 125 * 256] / abs(content).max()
    once, again = (
        np.concatenate([live(block) for block in (g * x).reshape(-1, 256)]) for g in (1, gain) if live.start()
    )
    assert abs(once).max() > 0.02
    loud = abs(once) > 0.02 * abs(once).max()
    assert abs(again[loud] / gain - once[loud]).max() <= 1e-3 * abs(once).max()


def test_live_keeps_channels_rate_and_places(pairs, tmp_path):
    "Three channels at 44.1 kHz: as many out, as long, and the power stands where it stood."
    content, style = pairs["phrases", 20]
    style.save(tmp_path / "a.style")
    x = resample(content[:, :32_000], SAMPLE_RATE, 44_100) * np.array([[1], [0.25], [0]], np.float32)
    sf.write(tmp_path / "x.wav", 0.3 * x.T, 44_100)
    live_file(tmp_path / "x.wav", tmp_path / "a.style", tmp_path / "y.wav")
    y, rate = load(tmp_path / "y.wav")
    assert y.shape == x.shape and rate == 44_100
    power = (y[:, 10_000:] ** 2).mean(1)
    assert abs(10 * np.log10(power[0] / power[1]) - 12) < 1 and power[2] < 1e-4 * power[0]


@pytest.mark.parametrize("alpha", ["0.5", None, [1], True, 1j, float("nan"), 1.1])
def test_an_alpha_that_is_no_share_is_refused(pairs, alpha):
    content, style = pairs["notes", 3]
    with pytest.raises(InputError, match="expected a number from 0"):
        transfer(content, style, alpha)
