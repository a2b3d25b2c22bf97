"""Preparing data when things go wrong: kills, a full disk, a second process, damaged archives; and every
source giving the same bytes.
"""

import io
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile as sf
import torch
from isal import igzip
from torch.utils.data import DataLoader

from mambamuse.data.config import DataConfig
from mambamuse.data.look import describe
from mambamuse.data.notes import MINI, SPLITS, Clips, audio_file, read_notes, read_split
from mambamuse.data.prepare import COMMIT, TABLES, check_enough, fill, index, prepare
from mambamuse.data.sources import Hub, NSynth, Source
from mambamuse.data.triplets import Triplets
from mambamuse.errors import InputError
from mambamuse.sound.audio import CLIP

COMMAND = Path(sys.executable).with_name("mambamuse")
SMALL = DataConfig(train=60, valid=10, test=8)


def wav(samples, rate=16_000):
    file = io.BytesIO()
    sf.write(file, samples, rate, format="WAV")
    return file.getvalue()


def pack(folder, split, notes, files, json_first=True):
    "An archive in NSynth's layout: entries by name, audio bytes by member name."
    members = list(files.items())
    members.insert(
        0 if json_first else len(members),
        (f"nsynth-{split}/examples.json", notes if isinstance(notes, bytes) else json.dumps(notes).encode()),
    )
    with (
        igzip.open(folder / f"nsynth-{split}.jsonwav.tar.gz", "wb", compresslevel=1) as file,
        tarfile.open(fileobj=file, mode="w|") as tar,
    ):
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def mini(split):
    "The embedded split as entries and members."
    notes = {n["note_str"]: n for n in read_notes(MINI, split)}
    return notes, {
        f"nsynth-{split}/audio/{name}.wav": wav(*sf.read(audio_file(MINI, split, n), dtype="int16"))
        for name, n in notes.items()
    }


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    "mini-nsynth as three archives, the JSON in one of them after the audio."
    folder = tmp_path_factory.mktemp("archives")
    for split in SPLITS:
        pack(folder, split, *mini(split), json_first=split != "valid")
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    "1,500 notes of noise as archives: enough to be killed in the middle of."
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    for split, n in dict(train=1_500, valid=20, test=20).items():
        names = [f"reed_acoustic_{i:03d}-060-100" for i in range(n)]
        notes = {
            name: dict(
                note=i,
                note_str=name,
                pitch=60,
                velocity=100,
                instrument_str=name[:17],
                instrument_source_str="acoustic",
            )
            for i, name in enumerate(names)
        }
        pack(
            folder,
            split,
            notes,
            {
                f"nsynth-{split}/audio/{name}.wav": wav(rng.integers(-9_000, 9_000, 34_000, dtype=np.int16))
                for name in names
            },
        )
    return folder


WORDS = ["--train", "1300", "--valid", "10", "--test", "5"]


@pytest.fixture(scope="module")
def whole(many, tmp_path_factory):
    "The report of an undisturbed preparation of `many`."
    return prepare(many, tmp_path_factory.mktemp("whole") / "data", DataConfig(train=1_300, valid=10, test=5))


def test_archive_folder_and_parquet_give_the_same_bytes(archives, tmp_path):
    from datasets import Features

    from mambamuse.data.notes import FEATURES

    columns = [c for c in FEATURES if c != "start"]
    (tmp_path / "hub").mkdir()
    for split in SPLITS:
        notes, files = mini(split)
        rows = [
            {
                **{c: n[c] for c in columns if c in n},
                "audio": dict(bytes=files[f"nsynth-{split}/audio/{name}.wav"], path=None),
            }
            for name, n in notes.items()
        ]
        random.Random(0).shuffle(rows)
        table = pyarrow.Table.from_pylist(rows, Features({c: FEATURES[c] for c in columns}).arrow_schema)
        pyarrow.parquet.write_table(
            table, tmp_path / "hub" / f"{'validation' if split == 'valid' else split}-00000-of-00001.parquet"
        )
    reports = [
        prepare(MINI, tmp_path / "a", SMALL, workers=1),
        prepare(archives, tmp_path / "b", SMALL, workers=3),
        prepare(tmp_path / "hub", tmp_path / "c", SMALL, "hub"),
    ]
    assert reports[0]["files"] == reports[1]["files"] == reports[2]["files"]
    assert all(
        r["read"] == dict(train=119, valid=20, test=20)
        and r["filtered"] == {s: {"velocity up to 50": n} for s, n in zip(SPLITS, (17, 4, 4))}
        for r in reports
    )


def test_kill_minus_nine_at_any_moment_loses_and_repeats_nothing(many, whole, tmp_path):
    database, counts, rng = tmp_path / ".data.work" / "notes.sqlite", [], random.Random(1)
    for _ in range(3):
        child = subprocess.Popen(
            [COMMAND, "prepare", "--path", many, "--out", "data", *WORDS],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seen = database.stat().st_size if database.exists() else 0
        group = 1.5 * COMMIT * CLIP * 2  # bytes of more than the notes that are committed at a time
        while child.poll() is None and (not database.exists() or database.stat().st_size <= seen + group):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.4))
        child.kill()
        assert child.wait() == -signal.SIGKILL and not (tmp_path / "data").exists()
        db = sqlite3.connect(database)
        counts.append(db.execute("SELECT count(*) FROM rows").fetchone()[0])
        db.close()
    assert counts == sorted(counts) and 0 < counts[-1]
    assert (
        prepare(many, tmp_path / "data", DataConfig(train=1_300, valid=10, test=5)) == whole
    )  # goes on; same report, same checksums
    assert not list(tmp_path.glob(".*")) and "checksums agree" in describe(tmp_path / "data")


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(many, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        done = subprocess.run(
            [COMMAND, "prepare", "--path", many, "--out", "data", *WORDS],
            cwd=disk,
            capture_output=True,
            text=True,
        )
        assert (
            done.returncode == 2
            and done.stderr.splitlines()[-1].startswith("mambamuse: ")
            and "full" in done.stderr
        ), done.stderr
        assert not (disk / "data").exists()
        subprocess.run(
            ["mount", "-o", "remount,size=140m", disk], check=True
        )  # the rows fit, rows and shards do not
        with pytest.raises((InputError, OSError)) as error:
            prepare(many, disk / "data", DataConfig(train=1_300, valid=10, test=5))
        assert "space" in str(error.value) and not (disk / "data").exists()
        subprocess.run(["mount", "-o", "remount,size=400m", disk], check=True)
        assert prepare(many, disk / "data", DataConfig(train=1_300, valid=10, test=5)) == whole
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_two_processes_do_not_share_a_folder(many, whole, tmp_path):
    child = subprocess.Popen(
        [COMMAND, "prepare", "--path", many, "--out", "data", *WORDS],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        database = tmp_path / ".data.work" / "notes.sqlite"
        while not database.exists() or not database.stat().st_size:
            time.sleep(0.005)
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(InputError, match="another process is preparing it"):
            prepare(many, tmp_path / "data", DataConfig(train=1_300, valid=10, test=5))
    finally:
        child.send_signal(signal.SIGCONT)
    assert (
        child.wait() == 0
        and json.loads((tmp_path / "data" / "report.json").read_text())["files"] == whole["files"]
    )


def test_every_fault_in_an_archive_is_counted_and_named(archives, tmp_path):
    folder = shutil.copytree(archives, tmp_path / "faulty")
    notes, files = mini("train")
    names, member = sorted(notes), "nsynth-train/audio/{}.wav".format
    files[member(names[0])] = b"RIFF, no more"
    files[member(names[1])] = wav(np.zeros(64_000, np.int16), 44_100)
    files[member(names[2])] = wav(np.zeros((64_000, 2), np.int16))
    files[member(names[3])] = wav(np.zeros(20_000, np.int16))
    del files[member(names[4])]
    del notes[names[5]]
    notes[names[6]].pop("velocity")
    absolute = f"{tmp_path}/evil.wav"
    files["../../evil.wav"] = files[absolute] = b"x"
    text = json.dumps(notes).encode()
    twice = json.dumps({names[7]: notes[names[7]]}).encode()
    pack(folder, "train", text[:-1] + b", " + twice[1:], files)
    report = prepare(folder, tmp_path / "out", DataConfig(train=80, valid=4, test=4))
    found = {(name, reason) for _, reason, name in report["skipped_items"]}
    passing = {n: v["velocity"] > 50 for n, v in mini("train")[0].items()}
    always = {
        ("../../evil.wav", "not a file of NSynth's layout"),
        (absolute, "not a file of NSynth's layout"),
        (names[4], "entry without audio"),
        (names[5], "audio without an entry"),
        (names[6], "entry lacks velocity"),
        (f"{names[7]} (entry 119)", "the same id twice, the first is used"),
    }
    faults = zip(
        names[:4],
        (
            "not audio that can be read",
            "44,100 Hz, expected 16,000 Hz",
            "2 channels, expected one",
            "shorter than a clip of 33,600 samples",
        ),
    )
    assert always <= found <= always | set(faults) | {(names[6], "audio without an entry")}
    assert {reason for name, reason in found if name in names[:4]} and all(
        passing[name] for name, _ in found if name in names[:4]
    )
    assert (
        sum(report["skipped"]["train"].values()) == len(found)
        and report["chosen"]["train"] == len(read_split(tmp_path / "out", "train")) == 80
    )
    assert not list(tmp_path.rglob("evil*")) and not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize(
    "damage,says",
    [
        (lambda b: b[: len(b) // 2], "damaged or cut short"),
        (lambda b: b[:-4], "damaged or cut short"),
        (lambda b: b[:200_000] + bytes(64) + b[200_064:], "damaged or cut short"),
        (lambda b: b"", "damaged or cut short"),
        (lambda b: b"<html>not found</html>", "damaged or cut short"),
    ],
    ids=["half", "no end", "bytes", "empty", "page"],
)
def test_a_damaged_archive_is_refused_and_nothing_appears(archives, tmp_path, damage, says):
    folder = shutil.copytree(archives, tmp_path / "damaged")
    path = folder / "nsynth-train.jsonwav.tar.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=says):
        prepare(folder, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [b"{", b"[1, 2]", b"not json", b'{"a": {"note": 1}, "b"'])
def test_examples_that_are_not_json_are_refused(archives, tmp_path, text):
    folder = shutil.copytree(archives, tmp_path / "bad")
    pack(folder, "train", text, {})
    with pytest.raises(InputError):
        check_enough(folder, SMALL)


def test_what_is_asked_for_is_there_or_the_reason_why(archives, tmp_path):
    for config, says in (
        (DataConfig(), "41,600 notes asked for, but only 102 of 119"),
        (DataConfig(train=60, valid=17, test=8), "valid: 17"),
    ):
        with pytest.raises(InputError, match=says):
            prepare(archives, tmp_path / "out", config)
    assert not list(tmp_path.iterdir())


def test_a_changed_source_or_config_starts_anew(archives, tmp_path):
    "A half-finished preparation of something else is not mixed in."
    folder = shutil.copytree(archives, tmp_path / "source")
    path = folder / "nsynth-test.jsonwav.tar.gz"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) * 3 // 4])
    with pytest.raises(InputError):
        prepare(folder, tmp_path / "out", SMALL)
    assert (tmp_path / ".out.work").is_dir()  # train and valid are done
    path.write_bytes(good)
    other = DataConfig(train=60, valid=10, test=8, seed=7)
    assert (
        prepare(folder, tmp_path / "out", other)["files"] == prepare(MINI, tmp_path / "fresh", other)["files"]
    )


def test_a_damaged_shard_is_found(tmp_path):
    prepare(MINI, tmp_path / "data", SMALL)
    shard = next((tmp_path / "data" / "data").glob("train-*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        describe(tmp_path / "data")


def test_workers_of_a_loader_see_what_the_process_sees(tmp_path):
    prepare(MINI, tmp_path / "data", SMALL)
    clips = Clips(tmp_path / "data", "train")
    alone, together = (torch.cat(list(DataLoader(clips, 8, num_workers=n))) for n in (0, 2))
    assert torch.equal(alone, together) and alone.shape == (60, 1, 33_600)


def test_own_recordings_from_the_command_line(mambamuse, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "mine" / "sax").mkdir(parents=True)
    for i, (suffix, rate) in enumerate((("wav", 8_000), ("flac", 44_100), ("ogg", 48_000), ("mp3", 22_050))):
        sf.write(
            tmp_path / "mine" / "sax" / f"{i}.{suffix}", rng.uniform(-0.5, 0.5, (rate * 9, 1 + i % 2)), rate
        )
    (tmp_path / "mine" / "empty.wav").touch()
    sf.write(tmp_path / "mine" / "tiny.wav", rng.uniform(-0.5, 0.5, 500), 16_000)
    code, out, err = mambamuse(
        "prepare",
        "--source",
        "folder",
        "--path",
        "mine",
        "--out",
        "data",
        "--train",
        6,
        "--valid",
        3,
        "--test",
        3,
        "--seed",
        3,
        cwd=tmp_path,
    )
    assert code == 0 and out == "data: 6 train, 3 valid, 3 test; 2 skipped, see data/report.json\n", err
    files = {
        split: {name.rsplit("-", 1)[0] for name in read_split(tmp_path / "data", split)["note_str"]}
        for split in SPLITS
    }
    assert (
        not files["train"] & files["valid"]
        and not files["valid"] & files["test"]
        and not files["train"] & files["test"]
    )
    code, out, err = mambamuse("data", "info", "data", cwd=tmp_path)
    assert (
        code == 0
        and "train: 6 rows" in out
        and "checksums agree" in out
        and (tmp_path / "data-info.png").stat().st_size > 10_000
    ), err
    code, _, err = mambamuse(
        "prepare", "--source", "folder", "--path", "mine", "--out", "data", "--train", 99, cwd=tmp_path
    )
    assert code == 2 and err.count("\n") == 1 and "99 notes asked for" in err


def test_triplets_of_notes_are_aligned(tmp_path):
    prepare(MINI, tmp_path / "data", DataConfig(train=102, valid=16, test=16, clip=64_000))
    triplets = Triplets(tmp_path / "data", "train", n=50)
    for i in range(10):
        places = []
        for clip, row in zip(
            triplets[i], triplets.picked[i]
        ):  # where, but for a factor, the note's samples are the clip's
            whole, clip = (
                sf.read(io.BytesIO(triplets.rows[row]["audio"]["bytes"]), dtype="float64")[0],
                clip[:4_000].double().numpy(),
            )
            windows = np.lib.stride_tricks.sliding_window_view(whole, 4_000)[:16_000]
            energy = np.cumsum(np.r_[0, whole**2])
            places.append(
                int(
                    (
                        energy[4_000:][:16_000]
                        - energy[:-4_000][:16_000]
                        - (windows @ clip) ** 2 / (clip @ clip)
                    ).argmin()
                )
            )
        assert places[0] == places[2], places


# Soundfonts, where there are any

FONTS = [
    Path(p)
    for p in ("/usr/share/sounds/sf2/TimGM6mb.sf2", "/usr/share/sounds/sf2/FluidR3_GM.sf2")
    if Path(p).is_file()
]


@pytest.fixture(scope="module")
def fonts():
    for package in ("fluidsynth", "music21"):
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    return FONTS or pytest.skip("there is no soundfont here (Debian: fluid-soundfont-gm)")


def test_rendered_notes_are_the_same_twice_and_in_any_order(fonts, tmp_path):
    config = DataConfig(train=24, valid=6, test=4)
    first, again = (
        prepare(fonts, tmp_path / "a", config, "soundfont"),
        prepare(fonts, tmp_path / "b", config, "soundfont", workers=1),
    )
    assert first == again
    rows = {split: read_split(tmp_path / "a", split) for split in SPLITS}
    assert not set(rows["train"]["program"]) & set([*rows["valid"]["program"], *rows["test"]["program"]])
    assert len(fonts) == 1 or not set(rows["train"]["soundfont"]) & set(rows["test"]["soundfont"])


def test_a_rendered_note_is_the_embedded_one(fonts):
    """mini-nsynth was rendered note by note with a fresh synthesiser; sharing the loaded font changes no
    sample.
    """
    from mambamuse.data.soundfonts import Soundfont

    path = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
    if not path.is_file():
        pytest.skip("FluidR3 is not installed")
    font = Soundfont(path)
    for note in read_notes(MINI, "test"):
        audio = font.play(
            note["program"], [(0, note["pitch"], note["velocity"]), (48_000, note["pitch"], 0)], 64_000
        )
        assert np.array_equal(
            np.round(audio * 32_767).astype(np.int16),
            sf.read(audio_file(MINI, "test", note), dtype="int16")[0],
        ), note["note_str"]


def test_notes_left_out_of_an_archive_are_named(fonts, tmp_path):
    from mambamuse.data.soundfonts import render_archives

    made = render_archives(
        fonts, tmp_path / "out", DataConfig(train=3, valid=2, test=1, silence=0.0)
    )  # nothing is that loud
    left = json.loads((tmp_path / "out" / "left-out.json").read_text())
    assert made == dict(train=0, valid=0, test=0) and {s: len(v) for s, v in left.items()} == dict(
        train=3, valid=2, test=1
    )
    assert {reason for names in left.values() for reason in names.values()} <= {
        "silent: peaks below 0 dB",
        "clips",
    }


def test_phrases_are_the_same_twice_and_share_their_events(fonts, tmp_path):
    from mambamuse.data.soundfonts import BLOCK

    config = DataConfig(train=6, valid=2, test=2)
    assert prepare(fonts, tmp_path / "a", config, "phrases") == prepare(
        fonts, tmp_path / "b", config, "phrases", workers=1
    )
    rows = {split: read_split(tmp_path / "a", split) for split in SPLITS}
    content, style, target = Triplets(tmp_path / "a", "train")[0]
    assert content.shape == style.shape == target.shape == (33_600,) and not torch.equal(content, target)
    for split in SPLITS:
        for row in rows[split]:
            assert (
                all(s % BLOCK == 0 for s in row["onsets"])
                and row["onsets"][0] == 0
                and row["content_instrument"] != row["style_instrument"]
            )
    for column in ("style_instrument", "content_score"):
        assert not set(rows["train"][column]) & set(rows["test"][column])


SCORE = """<score-partwise><part id="P1">
<measure><attributes><divisions>2</divisions><time><beats>3</beats><beat-type>4</beat-type></time></attributes>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>2</duration></note>
<note><chord/><pitch><step>F</step><alter>1</alter><octave>4</octave></pitch><duration>2</duration></note>
<note><rest/><duration>2</duration></note>
<note><pitch><step>D</step><octave>4</octave></pitch><duration>2</duration><tie type="start"/></note></measure>
<measure><note><pitch><step>D</step><octave>4</octave></pitch><duration>3</duration><tie type="stop"/></note>
<note><grace/><pitch><step>E</step><octave>4</octave></pitch></note>
<backup><duration>2</duration></backup><note><pitch><step>B</step><alter>-1</alter><octave>3</octave></pitch><duration>1</duration></note></measure>
<measure><note><rest measure="yes"/></note></measure>
<measure><note><pitch><step>G</step><octave>5</octave></pitch><duration>1</duration></note></measure>
</part></score-partwise>"""


def test_a_part_of_a_score_is_read_note_by_note():
    "Chords, rests, ties, ornaments, a second voice, a short measure and an empty one."
    from xml.etree import ElementTree

    from mambamuse.data.soundfonts import part_notes

    notes = sorted(map(tuple, part_notes(ElementTree.fromstring(SCORE).find("part"))))
    assert notes == [(0, 1, 60), (0, 1, 66), (2, 2.5, 62), (3.5, 0.5, 58), (7.5, 0.5, 79)]


def test_chorales_are_what_music21_reads(fonts):
    from music21 import converter

    from mambamuse.data.soundfonts import corpus, voices

    for path in corpus()[::101]:
        parts = [
            part.flatten().stripTies().notes
            for part in converter.parse(path, forceSource=True, storePickle=False).parts
        ]
        theirs = [
            sorted(
                {
                    (float(n.offset), float(n.quarterLength), p.midi)
                    for n in part
                    for p in n.pitches
                    if n.quarterLength
                }
            )
            for part in parts
        ]
        ours = voices(path)[:-1]
        assert len(ours) == len([part for part in theirs if len(part) > 8])
        for mine, part in zip(ours, (part for part in theirs if len(part) > 8)):
            assert np.array_equal(mine, part), path


def test_drawn_instruments_give_the_same_triplets_twice(tmp_path):
    config = DataConfig(train=12, valid=3, test=3, clip=8_000)
    assert prepare([], tmp_path / "a", config, "instruments") == prepare(
        [], tmp_path / "b", config, "instruments", workers=1
    )
    rows = {split: read_split(tmp_path / "a", split) for split in SPLITS}
    assert not {row["style"]["bytes"] for row in rows["train"]} & {
        row["style"]["bytes"] for row in rows["valid"]
    }
    triplets = Triplets(tmp_path / "a", "train")
    for i, row in enumerate(rows["train"]):
        content, style, target = (x.abs().max().item() for x in triplets[i])
        assert content == target == pytest.approx(
            0.9 * 10 ** (row["content_level"] / 20), rel=1e-3
        ) and style == pytest.approx(0.9 * 10 ** (row["style_level"] / 20), rel=1e-3)


def test_soundfonts_and_drawn_instruments_play_together(fonts, tmp_path):
    config = DataConfig(train=24, valid=2, test=2, clip=8_000, generated=0.5)
    prepare(fonts, tmp_path / "a", config, "instruments")
    rows = read_split(tmp_path / "a", "train")
    drawn = [
        sum(row[who].startswith("drawn") for who in ("content_instrument", "style_instrument"))
        for row in rows
    ]
    assert {0, 1, 2} == set(drawn)


def test_a_shifted_body_keeps_the_pitch_and_moves_the_spectrum(fonts):
    "Of a clarinet's held note: the fundamental, to a hertz, and the centre of its power."
    from mambamuse.data.soundfonts import Soundfont

    font, centres = Soundfont(fonts[-1]), {}
    for shift in (-7, 0, 7):
        sound = font.play(71, [(0, 60, 100), (16_000, 60, 0)], 16_000, shift)[4_000:12_000]
        power = np.abs(np.fft.rfft(sound * np.hanning(8_000), 64_000)) ** 2
        hertz = np.fft.rfftfreq(64_000, 1 / 16_000)
        low = (hertz > 200) & (hertz < 350)
        assert hertz[low][power[low].argmax()] == pytest.approx(261.6, abs=1)
        centres[shift] = (power * hertz).sum() / power.sum()
    assert centres[-7] > 1.1 * centres[0] > 1.2 * centres[7]
    again = font.play(71, [(0, 60, 100), (16_000, 60, 0)], 16_000)[4_000:12_000]
    assert np.array_equal(again, font.play(71, [(0, 60, 100), (16_000, 60, 0)], 16_000)[4_000:12_000])


def test_shifted_bodies_play_in_the_training_only(fonts, tmp_path):
    config = DataConfig(train=24, valid=8, test=8, clip=8_000, generated=0.0, shifted=1.0)
    prepare(fonts, tmp_path / "a", config, "instruments")
    for split in SPLITS:
        names = [row["style_instrument"] for row in read_split(tmp_path / "a", split)]
        assert all((name[-2] in "+-") == (split == "train") for name in names), names


def test_what_is_no_soundfont_is_refused(fonts, tmp_path):
    (tmp_path / "bad.sf2").write_bytes(b"RIFF, no more")
    for path, says in (
        (tmp_path / "bad.sf2", "not a soundfont"),
        (tmp_path / "none.sf2", "no such file or folder"),
    ):
        with pytest.raises(InputError, match=says):
            prepare(path, tmp_path / "out", SMALL, "soundfont")


def test_held_notes_are_triplets_of_one_note_each(fonts, tmp_path):
    prepare(fonts, tmp_path / "data", DataConfig(train=12, valid=2, test=2, held=0.5, clip=16_800), "phrases")
    rows = read_split(tmp_path / "data", "train")
    held = [row for row in rows if not row["content_score"]]
    assert 1 <= len(held) <= 11 and all(row["onsets"] == [0] and len(row["pitches"]) == 1 for row in held)
    assert {
        len(sf.read(io.BytesIO(row[column]["bytes"]))[0])
        for row in rows
        for column in ("audio", "style", "target")
    } == {16_800}


def test_events_after_the_end_change_nothing(fonts):
    "They used to be written behind the end of the memory."
    from mambamuse.data.soundfonts import Soundfont

    font = Soundfont(fonts[0])
    within = font.play(0, [(0, 60, 100)], 4_096)
    assert np.abs(within).max() > 0.01 and np.array_equal(
        font.play(0, [(0, 60, 100), (40_960, 60, 0), (81_920, 62, 100)], 4_096), within
    )


def test_a_licence_is_told_never_guessed(tmp_path):
    "NSynth's layout alone says nothing about whose notes these are; the README's front matter does."
    data = tmp_path / "notes"
    shutil.copytree(MINI, data)
    for text, licence in (
        (None, "other"),
        ("Mine.\nlicense: mit\n", "other"),
        ("---\nlicense: cc-by-4.0\ntags: [x]\n---\n# NSynth\n", "cc-by-4.0"),
        ("---\ntags: [license]\n---\nlicense: mit\n", "other"),
    ):
        (data / "README.md").unlink(missing_ok=True)
        if text:
            (data / "README.md").write_text(text)
        assert NSynth([data], DataConfig()).licence == licence


def test_a_name_on_the_hub_is_known_by_owner_and_revision(tmp_path):
    """Two names, or two revisions of one, are never the same half-finished preparation; a report keeps the
    owner. No network is asked.
    """

    def hub(path):
        source = Hub.__new__(Hub)
        Source.__init__(source, [path], DataConfig())
        return source

    paths = ("a/x", "b/x", "a/x@v1", "a/x@v2")
    assert len({json.dumps(hub(path).identity()) for path in paths}) == 4 and [
        hub(path).names() for path in paths
    ] == [[path] for path in paths]
    (tmp_path / "x").mkdir(), (tmp_path / "x" / "a.parquet").write_bytes(b"1")
    assert hub(tmp_path / "x").names() == ["x"] and hub(tmp_path / "x").identity()[0][1] == 1


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"source": {', ""])
def test_a_damaged_report_is_one_line(whole_mini, tmp_path, text):
    shutil.copytree(whole_mini, tmp_path / "data")
    (tmp_path / "data" / "report.json").write_text(text)
    with pytest.raises(InputError, match="report.json: (damaged|not a report)") as said:
        describe(tmp_path / "data")
    assert "\n" not in str(said.value)


@pytest.fixture(scope="module")
def whole_mini(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini") / "data"
    prepare(MINI, folder, DataConfig(train=20, valid=5, test=5))
    return folder


def test_notes_are_committed_in_groups_without_a_bar(tmp_path, monkeypatch):
    """With TQDM_DISABLE=1 the bar counts nothing. Of 20 notes, in groups of 8, two commits, and one at the
    end of each pass.
    """
    commits = []

    class Counted(sqlite3.Connection):
        def commit(self):
            commits.append(self.in_transaction)
            super().commit()

    for disabled in ("", "1"):
        monkeypatch.setattr("mambamuse.data.prepare.COMMIT", 8)
        monkeypatch.setenv("TQDM_DISABLE", disabled)
        connection = sqlite3.connect(":memory:", factory=Counted)
        connection.executescript(TABLES)
        source = NSynth([MINI], DataConfig(train=20, valid=5, test=5))
        index(connection, source, "train", source.config)
        commits.clear()
        fill(connection, source, "train", source.config, 2)
        chosen = connection.execute("SELECT count(*) FROM entries WHERE rank NOT NULL").fetchone()[0]
        assert len(commits) == chosen // 8 + 1
