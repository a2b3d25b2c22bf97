"""The shipped test sets: what the lists say is what the files hold, and rendering again gives the same
samples.
"""

import re
from hashlib import sha256
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT

from mambamuse.data.notes import MINI, read_notes
from mambamuse.data.soundfonts import PROGRAMS, TEST_PROGRAMS
from mambamuse.sound.audio import CLIP, SAMPLE_RATE

FOLDER = MINI.with_name("test_sets")
SETS = ("notes", "phrases")
SOUNDFONT = Path("/usr/share/sounds/sf3/MuseScore_General.sf3")
KNOWN = {
    name: (int(program), family)
    for family, entries in PROGRAMS.items()
    for program, name in re.findall(r"(\d+) ([A-Z][\w\- ]+?) \d+ \d+", entries)
}


def pairs(name):
    return pd.read_csv(FOLDER / name / "pairs.csv")


def read(name, file):
    return sf.read(FOLDER / name / file, dtype="float32")[0]


@pytest.mark.parametrize("name", SETS)
def test_every_file_is_listed_with_its_checksum_and_used(name):
    folder, triplets = FOLDER / name, pairs(name)
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert listed == {
        p.name: sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.name != "SHA256SUMS"
    }
    assert set(listed) - {"pairs.csv"} == set(triplets[["content", "style", "target"]].stack())
    for file in set(listed) - {"pairs.csv"}:
        about = sf.info(folder / file)
        assert (about.frames, about.samplerate, about.channels, about.subtype) == (
            CLIP,
            SAMPLE_RATE,
            1,
            "PCM_16",
        )
        assert abs(np.abs(read(name, file)).max() - 0.9) < 1e-3


@pytest.mark.parametrize("name", SETS)
def test_digests_are_those_of_the_readme(name):
    samples = b"".join(
        sf.read(p, dtype="int16")[0].astype("<i2").tobytes() for p in sorted((FOLDER / name).glob("*.flac"))
    )
    assert (
        re.search(rf"^{name} +(\w+)$", (FOLDER / "README.md").read_text(), re.M)[1]
        == sha256(samples).hexdigest()
    )


@pytest.mark.parametrize("name", SETS)
def test_fifty_triplets_of_two_instruments_each_pair_of_them_once(name):
    triplets = pairs(name)
    assert (
        len(triplets)
        == 50
        == triplets.pair.nunique()
        == len(triplets[["content_instrument", "style_instrument"]].drop_duplicates())
    )
    assert (triplets.content_instrument != triplets.style_instrument).all() and (
        triplets.content != triplets.target
    ).all()
    assert [KNOWN[i][1] for i in triplets.style_instrument] == list(
        triplets.family
    ) and triplets.family.nunique() == 8


@pytest.mark.parametrize("name", SETS)
def test_no_instrument_is_one_of_training(name):
    programs = {KNOWN[i][0] for i in pairs(name)[["content_instrument", "style_instrument"]].stack()}
    assert programs == set(TEST_PROGRAMS) and not programs & {n["program"] for n in read_notes(MINI, "train")}


def test_notes_have_the_pitches_of_the_list():
    "Judged by YIN in the middle of the note; the file's name says who plays what."
    for row in pairs("notes").itertuples():
        for file, instrument, pitch in (
            (row.content, row.content_instrument, row.pitch),
            (row.style, row.style_instrument, row.style_pitch),
            (row.target, row.style_instrument, row.pitch),
        ):
            assert file == f"{instrument.lower().replace(' ', '-')}-{pitch:03d}-{row.velocity:03d}.flac"
    for file in sorted((FOLDER / "notes").glob("*.flac")):
        hertz = np.median(
            librosa.yin(read("notes", file.name)[4_000:16_000], fmin=150, fmax=1_000, sr=SAMPLE_RATE)
        )
        assert abs(1200 * np.log2(hertz / 440) + 6900 - 100 * int(file.stem.split("-")[-2])) < 50, file.name
    assert (pairs("notes").pitch != pairs("notes").style_pitch).all()


def test_target_phrases_play_the_contents_notes_in_time():
    """The target's chroma resembles the content's more than the style's does; where it peaks against the
    content's, the lag is 0 within two frames (64 ms).
    """

    def chroma(file):
        return librosa.util.normalize(
            librosa.feature.chroma_stft(
                y=read("phrases", file), sr=SAMPLE_RATE, n_fft=4_096, hop_length=512, tuning=0
            ),
            axis=0,
        )

    lags = range(-12, 13)

    def at(a, b, lag):
        return (a[:, 12:-12] * b[:, 12 + lag : b.shape[1] - 12 + lag]).sum(0).mean()

    best, closer = [], []
    for row in pairs("phrases").itertuples():
        content, style, target = map(chroma, (row.content, row.style, row.target))
        best.append(max(lags, key=lambda lag: at(content, target, lag)))
        closer.append(at(content, target, 0) > at(content, style, 0))
    assert np.mean(np.abs(best) <= 2) >= 0.9 and np.mean(closer) >= 0.9, (best, closer)


def test_rendering_again_gives_the_same_samples(tmp_path):
    "The run notebook, with two triplets of each."
    import papermill

    for package in ("fluidsynth", "music21"):
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    if not SOUNDFONT.is_file():
        pytest.skip("MuseScore General is not installed (Debian: musescore-general-soundfont)")
    papermill.execute_notebook(
        str(ROOT / "nbs" / "runs" / "test_sets.ipynb"),
        None,
        dict(soundfont=str(SOUNDFONT), out=str(tmp_path), triplets=2),
        progress_bar=False,
        cwd=tmp_path,
    )
    for name in SETS:
        again = pd.read_csv(tmp_path / name / "pairs.csv")
        pd.testing.assert_frame_equal(again, pairs(name).head(2))
        for file in set(again[["content", "style", "target"]].stack()):
            assert np.array_equal(
                sf.read(tmp_path / name / file, dtype="int16")[0],
                sf.read(FOLDER / name / file, dtype="int16")[0],
            ), file
