"""Files, folders of files, loudness: against arrays and another meter, and with every file damaged that can
be.
"""

import json
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile as sf
from typer.testing import CliRunner

from mambamuse.cli import app
from mambamuse.errors import InputError
from mambamuse.model.generator import MambaMuse
from mambamuse.model.weights import load_model
from mambamuse.sound.audio import load, save
from mambamuse.sound.loudness import LIMIT
from mambamuse.use import files
from mambamuse.use.files import Transfer, transfer_file
from mambamuse.use.folders import RECORD, transfer_folder
from mambamuse.use.style import Style

HOURS = 3 * 3600


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    "Weights with either axis, and a style."
    d = tmp_path_factory.mktemp("studio")
    for axis in ("frame", "clip"):
        MambaMuse(widths=(4, 8, 16, 32), axis=axis).save_pretrained(d / axis)
    save(d / "style.wav", noise(9_000, seed=1), 22_050)
    return d


def command(*words):
    """The command, in this process: the line that `main` would make of its failure, standard output, standard
    error.
    """
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception and not isinstance(done.exception, InputError):
        raise done.exception
    return str(done.exception or ""), done.stdout, done.stderr


def lufs(path):
    "BS.1770's own filters: pyloudnorm's usual ones deviate by up to 0.12 LU."
    audio, rate = sf.read(path)
    return pyloudnorm.Meter(rate, "DeMan").integrated_loudness(audio)


@pytest.mark.parametrize("axis", ["frame", "clip"])
@pytest.mark.parametrize("channels, rate", [(1, 16_000), (2, 44_100), (2, 8_000)])
def test_the_output_is_as_loud_as_its_content(studio, tmp_path, axis, channels, rate):
    """As pyloudnorm hears both files; with a soft passage and a pause, which its gate leaves out. Not so with
    keep_level.
    """
    levels = np.repeat([1, 0.1, 0, 0.6], rate // 2).astype(np.float32)
    save(tmp_path / "x.wav", 0.03 * noise(channels, 2 * rate) * levels, rate)
    for keep in (False, True):
        transfer_file(
            tmp_path / "x.wav",
            studio / "style.wav",
            tmp_path / f"{keep}.wav",
            weights=studio / axis,
            keep_level=keep,
        )
    assert (
        abs(lufs(tmp_path / "False.wav") - lufs(tmp_path / "x.wav"))
        < 0.05
        < 0.1
        < abs(lufs(tmp_path / "True.wav") - lufs(tmp_path / "x.wav"))
    )


def test_an_output_never_clips_and_says_what_is_missing(studio, tmp_path):
    save(tmp_path / "x.wav", 1.9 * np.sign(noise(16_000)), 16_000)
    failed, _, err = command(
        "transfer",
        tmp_path / "x.wav",
        studio / "style.wav",
        "-o",
        tmp_path / "y.wav",
        "--weights",
        studio / "clip",
    )
    peak = abs(load(tmp_path / "y.wav")[0]).max()
    assert not failed and LIMIT - 1e-3 < peak <= 1
    missing = float(err.rpartition("y.wav: ")[2].split()[0])
    assert (
        "so that it does not clip" in err
        and abs(lufs(tmp_path / "x.wav") - lufs(tmp_path / "y.wav") - missing) < 0.1
    )


@pytest.mark.parametrize("samples", [1, 100, 6_399])
def test_short_and_silent_sounds_are_matched_too(studio, tmp_path, samples):
    "Shorter than a block of 400 ms: as if silence followed. Silence has no loudness and stays silence."
    for name, x in (("sound", 0.05 * noise(samples)), ("silence", np.zeros(samples))):
        save(tmp_path / f"{name}.wav", x, 16_000)
        y, _ = load(
            transfer_file(
                tmp_path / f"{name}.wav",
                studio / "style.wav",
                tmp_path / f"{name}-out.wav",
                weights=studio / "clip",
            )
        )
        assert y.shape == (1, samples) and (samples == 1 or y.any() == (name == "sound"))
    if samples > 100:

        def padded(name):
            return pyloudnorm.Meter(16_000, "DeMan").integrated_loudness(
                np.pad(load(tmp_path / name)[0][0], (0, 6_400 - samples))
            )

        assert abs(padded("sound.wav") - padded("sound-out.wav")) < 0.1


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_alpha_0_is_the_content_to_the_bit(studio, tmp_path, subtype):
    sf.write(tmp_path / "x.wav", noise(9_000, 2), 44_100, subtype=subtype)
    transfer_file(
        tmp_path / "x.wav", studio / "style.wav", tmp_path / "y.wav", alpha=0, weights=studio / "clip"
    )
    (x, rate), (y, same) = (sf.read(tmp_path / name) for name in ("x.wav", "y.wav"))
    assert rate == same and np.array_equal(x, y) and sf.info(tmp_path / "y.wav").subtype == subtype


def test_nothing_is_replaced_without_force(studio, tmp_path):
    save(tmp_path / "x.wav", noise(2_000), 16_000)
    (tmp_path / "y.wav").write_bytes(b"mine")

    def write(**how):
        return transfer_file(
            tmp_path / "x.wav", studio / "style.wav", tmp_path / "y.wav", weights=studio / "clip", **how
        )

    with pytest.raises(InputError, match="y.wav: exists"):
        write()
    assert (tmp_path / "y.wav").read_bytes() == b"mine"
    assert load(write(force=True))[0].shape == (1, 2_000)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("alpha", [0, 0.5])
def test_what_appears_during_a_transfer_is_not_replaced_without_force(
    studio, tmp_path, monkeypatch, alpha, force
):
    "The content is read after the place was looked at, and another program is done in between."
    save(tmp_path / "x.wav", noise(2_000), 16_000)

    def load_slowly(*how):
        (tmp_path / "y.wav").write_bytes(b"theirs")
        return load(*how)

    monkeypatch.setattr(files, "load", load_slowly)

    def write():
        return transfer_file(
            tmp_path / "x.wav",
            studio / "style.wav",
            tmp_path / "y.wav",
            alpha=alpha,
            weights=studio / "clip",
            force=force,
        )

    if force:
        assert load(write())[0].shape == (1, 2_000)
    else:
        with pytest.raises(InputError, match="y.wav: exists; name another file to write"):
            write()
        assert (tmp_path / "y.wav").read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.wav", "y.wav"]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "caf"])
def test_a_full_disk_at_alpha_0_is_one_line_and_leaves_nothing(studio, tmp_path, suffix):
    "The limit on a file's size stands for the disk's end."
    save(tmp_path / "x.wav", noise(2, 100_000), 44_100)

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_480, 20_480))

    words = [
        Path(sys.executable).with_name("mambamuse"),
        "transfer",
        "x.wav",
        studio / "style.wav",
        "-o",
        f"y.{suffix}",
        "--alpha",
        "0",
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, preexec_fn=small)
    assert (
        done.returncode == 2 and done.stderr == f"mambamuse: y.{suffix}: cannot be written (File too large)\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda data: data[:-4_000], "x.flac: cannot be read to its end"),
        (lambda data: b"", "x.flac: the file is empty"),
    ],
)
def test_a_damaged_content_is_refused_at_alpha_0_too(studio, tmp_path, damage, says):
    save(tmp_path / "x.flac", noise(30_000), 16_000)
    (tmp_path / "x.flac").write_bytes(damage((tmp_path / "x.flac").read_bytes()))
    with pytest.raises(InputError, match=says):
        transfer_file(
            tmp_path / "x.flac", studio / "style.wav", tmp_path / "y.wav", alpha=0, weights=studio / "clip"
        )
    assert not (tmp_path / "y.wav").exists()


def cut(path, by):
    "`path` without its last `by` bytes."
    path.write_bytes(path.read_bytes()[:-by])
    return path


@pytest.mark.parametrize("suffix, by", [("wav", 10_001), ("wav", 10_003), ("ogg", 4_001), ("mp3", 4_001)])
def test_a_file_that_ends_mid_frame_is_transferred_as_far_as_it_goes(studio, tmp_path, suffix, by):
    save(
        tmp_path / f"x.{suffix}", 0.5 * noise(2, 48_000), 16_000
    )  # lossy formats overshoot: no sample above full scale
    content = cut(tmp_path / f"x.{suffix}", by)
    there, _ = load(content)
    assert there.shape[1] < 48_000
    y, _ = load(transfer_file(content, studio / "style.wav", tmp_path / "y.wav", weights=studio / "clip"))
    want = load_model(studio / "clip").transfer(there, studio / "style.wav")
    assert y.shape == there.shape and abs(y - want).max() <= 2**-15 + 1e-6


def claims_three_hours(path):
    "A WAV or FLAC of three seconds whose header says three hours."
    save(path, noise(2, 48_000), 16_000)
    data = bytearray(path.read_bytes())
    if path.suffix == ".wav":
        at = data.find(b"data")
        data[4:8], data[at + 4 : at + 8] = (
            struct.pack("<I", HOURS * 16_000 * 4 + 36),
            struct.pack("<I", HOURS * 16_000 * 4),
        )
    else:
        data[18:26] = (int.from_bytes(data[18:26], "big") >> 36 << 36 | HOURS * 16_000).to_bytes(
            8, "big"
        )  # the last 36 bits of this part of STREAMINFO
    path.write_bytes(data)
    return path


def test_a_header_that_promises_three_hours(studio, tmp_path):
    """WAV: what is there. FLAC, whose frames are checked: a line that says where it ends, and nothing is
    written.
    """
    content = claims_three_hours(tmp_path / "x.wav")
    y, _ = load(
        transfer_file(cut(content, 3), studio / "style.wav", tmp_path / "y.wav", weights=studio / "clip")
    )
    assert y.shape == (2, 47_999)
    (tmp_path / "z.wav").write_bytes(b"old")
    content = claims_three_hours(tmp_path / "x.flac")
    assert sf.info(content).frames == HOURS * 16_000
    with pytest.raises(InputError, match="x.flac: cannot be read to its end, it is damaged or was cut off"):
        transfer_file(content, studio / "style.wav", tmp_path / "z.wav", weights=studio / "clip", force=True)
    assert (tmp_path / "z.wav").read_bytes() == b"old" and not list(tmp_path.glob(".*"))


def test_nan_in_the_middle_of_a_file(studio, tmp_path):
    x = noise(60_000)
    x[50_000] = np.nan
    sf.write(tmp_path / "x.wav", x, 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match="x.wav: there are NaN"):
        transfer_file(tmp_path / "x.wav", studio / "style.wav", tmp_path / "y.wav", weights=studio / "clip")
    assert not (tmp_path / "y.wav").exists()


def test_a_file_whose_rate_changes_ends_where_it_does(studio, tmp_path):
    "A chained OGG: libsndfile reads its first link."
    save(tmp_path / "a.ogg", noise(32_000), 16_000), save(tmp_path / "b.ogg", noise(64_000), 32_000)
    (tmp_path / "ab.ogg").write_bytes((tmp_path / "a.ogg").read_bytes() + (tmp_path / "b.ogg").read_bytes())
    one, two = (
        load(
            transfer_file(
                tmp_path / f"{name}.ogg",
                studio / "style.wav",
                tmp_path / f"{name}.wav",
                weights=studio / "clip",
            )
        )
        for name in ("a", "ab")
    )
    assert one[1] == two[1] == 16_000 and np.array_equal(one[0], two[0])


@pytest.mark.parametrize("axis", ["frame", "clip"])
def test_the_style_may_go_away_once_it_was_read(studio, tmp_path, axis):
    shutil.copytree(studio / axis, tmp_path / "w"), shutil.copy(studio / "style.wav", tmp_path / "style.wav")
    save(tmp_path / "x.wav", noise(20_000), 16_000)
    transfer = Transfer(tmp_path / "style.wav", weights=tmp_path / "w")
    before = transfer(tmp_path / "x.wav", tmp_path / "before.wav").read_bytes()
    (tmp_path / "style.wav").unlink(), shutil.rmtree(tmp_path / "w")
    assert transfer(tmp_path / "x.wav", tmp_path / "after.wav").read_bytes() == before


@pytest.fixture
def session(tmp_path):
    "A folder of three recordings, one of a format that is not written; and things that are none."
    (tmp_path / "in" / "song").mkdir(parents=True)
    (
        save(tmp_path / "in" / "a.flac", noise(2, 9_000), 44_100),
        save(tmp_path / "in" / "song" / "b.ogg", noise(9_000), 16_000),
    )
    sf.write(tmp_path / "in" / "song" / "c.au", noise(9_000), 16_000)
    (
        (tmp_path / "in" / "text.txt").write_text("la"),
        (tmp_path / "in" / "._a.flac").write_text("a Mac was here"),
    )
    return tmp_path


def stamps(folder):
    return {
        p.relative_to(folder).as_posix(): p.stat().st_mtime_ns
        for p in folder.rglob("*")
        if p.is_file() and p.name != RECORD
    }


def test_a_folder_is_done_once_for_the_same_settings(studio, session):
    "And again for what differs: content, style, alpha, level, weights; or is missing."
    out, style, weights = (
        session / "in" / "out",
        session / "style.wav",
        session / "w",
    )  # inside the folder, yet not its content
    shutil.copy(studio / "style.wav", style), shutil.copytree(studio / "clip", weights)

    def run(alpha=1.0, keep=False):
        return tuple(
            transfer_folder(
                session / "in", style, out, alpha=alpha, weights=weights, keep_level=keep
            ).values()
        )

    assert run() == (3, 0, 0)
    first = stamps(out)
    assert (
        set(first) == {"a.flac", "song/b.ogg", "song/c.wav"} and sf.info(out / "a.flac").samplerate == 44_100
    )
    assert run() == (0, 3, 0) and stamps(out) == first
    save(session / "in" / "a.flac", noise(2, 8_000), 44_100)
    assert run() == (1, 2, 0) and {name for name, stamp in stamps(out).items() if stamp != first[name]} == {
        "a.flac"
    }
    (out / "song" / "b.ogg").unlink()
    assert run() == (1, 2, 0)
    assert run(0.5) == (3, 0, 0) and run(0.5, True) == (3, 0, 0) and run(0.5) == (3, 0, 0)
    save(style, noise(8_000), 22_050)
    assert run(0.5) == (3, 0, 0)
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps(config | dict(alphas=[1, 1, 1, 0.5, 0.2])))
    assert run(0.5) == (3, 0, 0) and run(0.5) == (0, 3, 0)


def test_an_output_that_was_changed_is_left_alone_and_named(studio, session, capsys):
    """With the same settings and with others; --force makes it again. Outputs that nobody touched go the
    usual way.
    """
    out = session / "out"

    def run(alpha=1.0, force=False):
        counts = transfer_folder(
            session / "in", studio / "style.wav", out, alpha=alpha, weights=studio / "clip", force=force
        )
        said = [
            line.partition("out/")[2] for line in capsys.readouterr().err.splitlines() if "changed" in line
        ]
        return tuple(counts.values()), said

    assert run() == ((3, 0, 0), [])
    made = (out / "song" / "b.ogg").read_bytes()
    edited = made[:-1] + bytes([made[-1] ^ 1])
    (out / "song" / "b.ogg").write_bytes(edited)
    line = ["song/b.ogg: changed since it was made; kept (--force replaces it)"]
    assert run() == ((0, 2, 1), line) and run(0.5) == ((2, 0, 1), line) and run(0.5) == ((0, 2, 1), line)
    assert (out / "song" / "b.ogg").read_bytes() == edited
    assert run(0.5, True) == ((1, 2, 0), []) and run(0.5) == ((0, 3, 0), [])
    assert (out / "song" / "b.ogg").read_bytes() not in (made, edited)


def test_an_output_is_known_even_after_a_transfer_that_failed(studio, session, capsys):
    "Its content is damaged for a while, and somebody edits the output meanwhile."
    (session / "in" / "song" / "b.ogg").unlink(), (session / "in" / "song" / "c.au").unlink()

    def run():
        return tuple(
            transfer_folder(
                session / "in", studio / "style.wav", session / "out", weights=studio / "clip"
            ).values()
        )

    content = (session / "in" / "a.flac").read_bytes()
    assert run() == (1, 0, 0)
    (session / "in" / "a.flac").write_bytes(content[:-4_000])
    assert run() == (0, 0, 1) and "it is damaged or was cut off" in capsys.readouterr().err
    (session / "in" / "a.flac").write_bytes(content)
    assert run() == (0, 1, 0)
    (session / "out" / "a.flac").write_bytes(b"mine")
    assert run() == (0, 0, 1) and (session / "out" / "a.flac").read_bytes() == b"mine"


def test_a_record_without_digests_counts_as_before(studio, session):
    def run(alpha=1.0):
        return tuple(
            transfer_folder(
                session / "in", studio / "style.wav", session / "out", alpha=alpha, weights=studio / "clip"
            ).values()
        )

    assert run() == (3, 0, 0)
    lines = [json.loads(line) for line in (session / "out" / RECORD).read_text().splitlines()]
    (session / "out" / RECORD).write_text(
        "".join(json.dumps(dict(name=line["name"], key=line["key"])) + "\n" for line in lines)
    )
    (session / "out" / "a.flac").write_bytes(b"edited")
    assert run() == (0, 3, 0) and run(0.5) == (3, 0, 0)
    (session / "out" / "a.flac").write_bytes(b"edited")
    assert run(0.5) == (0, 2, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take only names that are text")
def test_a_recording_whose_name_is_no_text(studio, tmp_path):
    """Among others in a folder, whose second run knows it again; alone; as a style; as the output; and in a
    message.
    """
    bad, worse, style = os.fsdecode(b"bad\xff.wav"), os.fsdecode(b"worse\xfe.wav"), studio / "style.wav"
    (tmp_path / "in").mkdir()
    for name in (bad, "good.wav"):
        save(tmp_path / "in" / name, noise(9_000), 16_000)
    for counts in (dict(made=2, kept=0, failed=0), dict(made=0, kept=2, failed=0)):
        assert transfer_folder(tmp_path / "in", style, tmp_path / "out", weights=studio / "clip") == counts
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == [b"bad\xff.wav", b"good.wav", RECORD.encode()]
    (tmp_path / "in" / worse).write_text("not audio")

    def run(*words):
        return subprocess.run(
            [Path(sys.executable).with_name("mambamuse"), "transfer", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    done = run(f"in/{bad}", f"in/{bad}", "-o", bad)
    assert (done.returncode, done.stdout) == (0, "bad\\udcff.wav\n") and load(tmp_path / bad)[0].shape == (
        1,
        9_000,
    ), done.stderr
    done = run("in", style, "-o", "new", "--alpha", "0")
    assert done.returncode == 2 and done.stdout == "new: 2 made, 0 kept, 1 failed\n"
    assert done.stderr.startswith("mambamuse: in/worse\\udcfe.wav: not audio that can be read (WAV,"), (
        done.stderr
    )


def test_broken_recordings_are_named_and_the_others_done(studio, session, monkeypatch):
    monkeypatch.chdir(session)
    (session / "in" / "0-broken.wav").write_text("not audio"), (session / "in" / "empty.mp3").touch()
    save(session / "in" / "song" / "c.wav", noise(100), 16_000)  # c.au would become c.wav, too
    for made, kept in ((3, 0), (0, 3)):
        failed, out, err = command(
            "transfer", "in", studio / "style.wav", "-o", "out", "--weights", studio / "clip"
        )
        assert (
            failed.startswith("in: 3 of 6 recordings could not be transferred")
            and out == f"out: {made} made, {kept} kept, 3 failed\n"
        )
        for line in (
            "in/0-broken.wav: not audio",
            "in/empty.mp3: the file is empty",
            "in/song/c.wav: would become song/c.wav, as song/c.au does",
        ):
            assert err.count(f"mambamuse: {line}") == 1, err
    assert len(stamps(session / "out")) == 3


def test_a_folder_goes_on_after_a_kill(studio, tmp_path):
    """SIGKILL while it works on the second file or later: what was finished is kept, no part of a file is
    left, and the rest is as if never stopped.
    """
    (tmp_path / "in").mkdir()
    for k in range(4):
        save(tmp_path / "in" / f"{k}.wav", noise(48_000, seed=k), 16_000)
    words = [
        Path(sys.executable).with_name("mambamuse"),
        "transfer",
        "in",
        studio / "style.wav",
        "-o",
        "out",
        "--weights",
        studio / "clip",
    ]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    record = tmp_path / "out" / RECORD
    while not (record.is_file() and record.read_text().endswith("}\n")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = {
        entry["name"]: entry["key"]
        for entry in map(json.loads, (tmp_path / "out" / RECORD).read_text().splitlines())
    }
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in done}
    assert 0 < len(done) < 4
    assert transfer_folder(
        tmp_path / "in", studio / "style.wav", tmp_path / "out", weights=studio / "clip"
    ) == dict(made=4 - len(done), kept=len(done), failed=0)
    assert before == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in done}
    for k in range(4):
        alone = transfer_file(
            tmp_path / "in" / f"{k}.wav",
            studio / "style.wav",
            tmp_path / "alone.wav",
            weights=studio / "clip",
            force=True,
        )
        assert alone.read_bytes() == (tmp_path / "out" / f"{k}.wav").read_bytes()


@pytest.mark.parametrize(
    "words, says",
    [
        (["in", "style.wav"], "name the folder to write with -o"),
        (["in", "style.wav", "-o", "in"], "holds the recordings themselves"),
        (["in", "style.wav", "-o", "style.wav"], "style.wav: is a file; name a folder"),
        (["nothing", "style.wav", "-o", "out"], "nothing: no recordings in it"),
        (["in", "in", "-o", "out"], "in: is a folder, not an audio file"),
        (["in", "none.wav", "-o", "out"], "none.wav: no such file"),
        (["in", "style.wav", "-o", "out", "--alpha", "2"], "alpha is 2"),
        (["in/a.flac", "style.wav", "-o", "nothing"], "nothing"),
        (["a.style", "style.wav", "-o", "y.wav"], "a.style: is a style file; the content is a recording"),
    ],
)
def test_bad_words_are_one_line_and_leave_nothing(studio, session, monkeypatch, words, says):
    monkeypatch.chdir(session)
    (
        (session / "nothing").mkdir(),
        shutil.copy(studio / "style.wav", session / "style.wav"),
        (session / "a.style").touch(),
    )
    before = sorted(session.rglob("*"))
    failed, out, err = command("transfer", *words, "--weights", studio / "clip")
    assert says in failed and "\n" not in failed and not out + err
    assert sorted(session.rglob("*")) == before


def test_a_record_that_cannot_be_read(studio, session):
    "A line in its middle; a last line that was cut off is a file to make again."
    (session / "out").mkdir()

    def run():
        return transfer_folder(session / "in", studio / "style.wav", session / "out", weights=studio / "clip")

    (session / "out" / RECORD).write_text('{"name": "a.flac", "ke')
    assert run() == dict(made=3, kept=0, failed=0) and run() == dict(made=0, kept=3, failed=0)
    (session / "out" / RECORD).write_text('{"name": \n{"name": "a.flac", "key": "0"}\n')
    with pytest.raises(InputError, match=f"{RECORD}: line 1 cannot be read; remove the file"):
        run()


def test_a_style_of_a_folder_and_its_file(studio, session, monkeypatch):
    """The mean of all recordings in it; the file has the rights of any other, and a name that tells what it
    is.
    """
    monkeypatch.chdir(session)
    assert command("style", "in", "-o", "x.style", "--weights", studio / "clip") == ("", "x.style\n", "")
    want = Style.of(
        load_model(studio / "clip"),
        *(session / "in" / name for name in ("a.flac", "song/b.ogg", "song/c.au")),
    )
    assert abs(Style.load(session / "x.style").statistics - want.statistics).max() < 1e-6
    (session / "plain").touch()
    assert stat.S_IMODE(os.stat(session / "x.style").st_mode) == stat.S_IMODE(
        os.stat(session / "plain").st_mode
    )
    assert (
        command("style", "in", "-o", "x.wav", "--weights", studio / "clip")[0]
        == "x.wav: the name of a style file ends in .style"
        and not (session / "x.wav").exists()
    )


def test_a_style_of_a_folder_goes_on_past_a_broken_recording(studio, session, monkeypatch):
    monkeypatch.chdir(session)
    (session / "in" / "broken.wav").write_text("not audio")
    line, _, said = command("style", "in", "-o", "x.style", "--weights", studio / "clip")
    assert line == "x.style: without 1 of 4 recordings; each is named above"
    assert "broken.wav: not audio" in said and said.count("\n") == 1
    want = Style.of(
        load_model(studio / "clip"),
        *(session / "in" / name for name in ("a.flac", "song/b.ogg", "song/c.au")),
    )
    assert np.array_equal(Style.load(session / "x.style").statistics, want.statistics)


@pytest.mark.parametrize("read", ["content", "style"])
@pytest.mark.parametrize("how", ["transfer", "live"])
def test_no_output_takes_the_place_of_what_is_read(studio, tmp_path, how, read):
    "By its own name, or by another: through a link."
    files = {name: tmp_path / f"{name}.wav" for name in ("content", "style")}
    for file in files.values():
        shutil.copyfile(studio / "style.wav", file)
    (tmp_path / "link.wav").symlink_to(files[read])
    before = files[read].read_bytes()
    first = (
        (files["content"], files["style"])
        if how == "transfer"
        else (files["style"], "--content", files["content"])
    )
    for out in (files[read], tmp_path / "link.wav"):
        said, _, _ = command(how, *first, "-o", out, "--weights", studio / "clip")
        assert "would be lost; name another file" in said and "\n" not in said
    assert (
        files[read].read_bytes() == before
        and command(how, *first, "-o", tmp_path / "new.wav", "--weights", studio / "clip")[0] == ""
    )
