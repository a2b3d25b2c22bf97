"""Sound files as other programs write them: every sample format, sizes that are wrong, files that were cut,
pipes, threads, kills.
"""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from mambamuse.data import sources
from mambamuse.data.config import DataConfig
from mambamuse.data.sources import Folder
from mambamuse.errors import InputError, refusal
from mambamuse.sound import audio
from mambamuse.sound.audio import (
    FORMATS,
    PLAIN,
    SoundFormat,
    decoded_file,
    load,
    missing_end,
    opened,
    recordings,
    save,
    writer,
)
from mambamuse.sound.paths import check_place


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def python(code, *words, **settings):
    "What Python says that runs `code` with the package: its exit code, standard output, standard error."
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, **settings
    )
    return done.returncode, done.stdout, done.stderr


def test_the_module_needs_only_what_reads_and_resamples():
    code = "import sys, mambamuse.sound.audio; print(*sys.modules)"
    failed, modules, said = python(code)
    assert not failed, said
    assert "soundfile" in modules.split() and not {"torch", "scipy", "pandas", "matplotlib", "tqdm"} & set(
        modules.split()
    )


# What is read is written

WRITABLE = [
    (suffix, subtype)
    for suffix, kind in FORMATS.items()
    for subtype in sf.available_subtypes(kind)
    if subtype in PLAIN
]


@pytest.mark.parametrize("suffix, subtype", WRITABLE)
def test_what_is_read_is_written_to_the_bit(tmp_path, capsys, suffix, subtype):
    "At 44.1 kHz, in stereo; 64-bit floats and 32-bit integers as far as float32 holds them."
    sf.write(tmp_path / f"a{suffix}", noise(5_000, 2), 44_100, subtype, format=FORMATS[suffix])
    sound, rate = load(tmp_path / f"a{suffix}")
    about = SoundFormat.of(tmp_path / f"a{suffix}")
    with writer(tmp_path / f"b{suffix}", about.rate, about.channels, about.subtype) as sink:
        for start in range(0, 5_000, 777):
            sink.write(sound[:, start : start + 777])
    back = load(tmp_path / f"b{suffix}")
    assert np.array_equal(back[0], sound) and back[1] == rate == 44_100
    assert SoundFormat.of(tmp_path / f"b{suffix}") == about == SoundFormat(44_100, 2, subtype)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "subtype, kept, told",
    [
        ("PCM_U8", "PCM_S8", False),
        ("PCM_16", "PCM_16", False),
        ("PCM_24", "PCM_24", False),
        ("PCM_32", "PCM_24", True),
        ("FLOAT", "PCM_24", True),
        ("DOUBLE", "PCM_24", True),
        ("ULAW", "PCM_16", False),
        ("IMA_ADPCM", "PCM_16", False),
    ],
)
def test_a_flac_of_each_kind_of_wav(tmp_path, capsys, subtype, kept, told):
    sf.write(tmp_path / "a.wav", noise(5_000), 16_000, subtype)
    sound, rate = load(tmp_path / "a.wav")
    save(tmp_path / "b.flac", sound, rate, SoundFormat.of(tmp_path / "a.wav").subtype)
    back = load(tmp_path / "b.flac")[0]
    assert SoundFormat.of(tmp_path / "b.flac").subtype == kept and back.shape == sound.shape
    assert abs(back - sound).max() <= (2**-23 if told else 0)
    said = capsys.readouterr().err
    assert said.count("\n") == told and (
        not told or "b.flac: is written as Signed 24 bit PCM, which holds less than" in said
    )


@pytest.mark.parametrize("suffix", [".mp3", ".ogg"])
@pytest.mark.parametrize("subtype, told", [("PCM_24", True), ("MPEG_LAYER_III", False)])
def test_a_lossy_result_is_told_once_and_only_if_the_content_was_not(tmp_path, capsys, suffix, subtype, told):
    save(tmp_path / f"a{suffix}", noise(1, 20_000), 16_000, subtype)
    assert capsys.readouterr().err.count(f"a{suffix}: is written as") == told
    assert load(tmp_path / f"a{suffix}")[0].shape == (1, 20_000)


@pytest.mark.parametrize(
    "suffix, subtype, clipped",
    [
        (".wav", "PCM_16", 300),
        (".wav", "PCM_32", 300),
        (".wav", "FLOAT", 0),
        (".wav", "DOUBLE", 0),
        (".aiff", "FLOAT", 0),
        (".caf", "FLOAT", 0),
        (".flac", "FLOAT", 300),
        (".ogg", "VORBIS", 0),
        (".mp3", "MPEG_LAYER_III", 0),
    ],
)
def test_what_lies_above_full_scale_is_kept_or_counted(tmp_path, capsys, suffix, subtype, clipped):
    "Exactly full scale is not above it. The lossy formats decode to what lies above, too."
    loud = noise(2, 6_000)
    loud[0, 1_000:1_300] = np.repeat([1.6, -1.6], 150)
    loud[1, 2_000:2_100] = 1
    save(tmp_path / f"a{suffix}", loud, 16_000, subtype)
    back = load(tmp_path / f"a{suffix}")[0]
    assert (abs(back).max() <= 1) == bool(clipped)
    said = capsys.readouterr().err
    assert said.count("lay above full scale and were clipped") == bool(clipped)
    assert not clipped or f"{clipped} samples (2.5 %)" in said


def test_a_wav_beyond_its_size_becomes_rf64_and_an_aiff_is_refused(tmp_path, monkeypatch):
    "With the limit at 10 kB: a real file of 4 GiB takes too long."
    assert audio.LARGEST < 2**32 - 100
    monkeypatch.setattr(audio, "LARGEST", 10_000)
    save(tmp_path / "small.wav", noise(5_000), 16_000)
    save(tmp_path / "large.wav", noise(5_001), 16_000)
    assert (
        sf.info(tmp_path / "small.wav").format == "WAV" and sf.info(tmp_path / "large.wav").format == "RF64"
    )
    assert abs(load(tmp_path / "large.wav")[0][0] - noise(5_001)).max() <= 2**-15
    for name in ("unforeseen.wav", "large.aiff"):
        with pytest.raises(InputError, match=f"{name}: .* holds at most 4 GiB; write a .caf"):
            with writer(tmp_path / name, 16_000, 1) as sink:
                for _ in range(3):
                    sink.write(noise(2_000))
        assert not (tmp_path / name).exists()
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    "The limit on a file's size stands for the disk's end."

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    code = (
        "import sys, numpy as np\nfrom mambamuse.sound.audio import InputError, save\n"
        "try: save(sys.argv[1], np.zeros((1, 200_000), np.float32), 16_000)\n"
        "except InputError as error: print(error)"
    )
    for name in ("a.wav", "a.caf"):
        failed, said, _ = python(code, tmp_path / name, preexec_fn=small)
        assert not failed and said == f"{tmp_path / name}: cannot be written (File too large)\n"
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_called_so():
    with pytest.raises(OSError) as full, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"1")
    assert refusal(full.value) == "the disk is full"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take only names that are text")
def test_a_name_may_be_any_bytes(tmp_path):
    folder = tmp_path / os.fsdecode(b"f\xfe")
    folder.mkdir()
    bad = folder / os.fsdecode(b"bad\xff.wav")
    save(bad, noise(2, 5_000), 44_100, "FLOAT")
    assert os.listdir(os.fsencode(folder)) == [b"bad\xff.wav"]
    sound, rate = load(bad)
    assert np.array_equal(sound, noise(2, 5_000)) and rate == 44_100 and recordings(folder) == [bad]
    assert (
        sources.length(bad) == 5_000 * 16_000 // 44_100
        and len(sources.cut(bad, 0, DataConfig(clip=4_112))) == 4_112
    )
    bad.write_text("not audio")
    with pytest.raises(InputError, match="not audio that can be read"):
        load(bad)


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_that_appears_meanwhile_is_replaced_only_if_that_was_asked(tmp_path, replace):
    def write():
        with writer(tmp_path / "a.wav", 16_000, 1, "FLOAT", replace=replace) as sink:
            sink.write(noise(1_000))
            (tmp_path / "a.wav").write_bytes(b"theirs")

    if replace:
        write()
    else:
        with pytest.raises(InputError, match="a.wav: exists; name another file to write, or add --force"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    if replace:
        assert np.array_equal(load(tmp_path / "a.wav")[0][0], noise(1_000))
    else:
        assert (tmp_path / "a.wav").read_bytes() == b"theirs"


# Files that were cut, and files from a pipe

CUT = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_24"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AIFF", "FLOAT"),
    ("AU", "PCM_16"),
    ("MP3", "MPEG_LAYER_III"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
]


@pytest.mark.parametrize("kind, subtype", CUT)
def test_a_cut_file_is_read_as_far_as_it_goes_with_one_line(tmp_path, capsys, kind, subtype):
    "Without its last third; the same file, whole, says nothing."
    path = tmp_path / f"a.{kind.lower()}"
    with sf.SoundFile(path, "w", 16_000, 1, subtype, format=kind) as file:
        for second in range(9):
            file.write(noise(16_000, seed=second))
    whole = load(path)[0]
    assert whole.shape[1] >= 9 * 16_000 and capsys.readouterr().err == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    sound, _, lost = decoded_file(path)
    assert capsys.readouterr().err == "" and 70_000 < sound.shape[1] < 100_000
    again, _ = load(path)
    said = capsys.readouterr().err
    assert said == f"mambamuse: {lost}\n" and np.array_equal(again, sound) and f"{path}: was cut off" in lost
    if kind != "OGG":
        missing, promised = (
            float(word) for word in lost.replace(" s", "").split() if word.replace(".", "").isdigit()
        )
        assert (
            abs(promised - whole.shape[1] / 16_000) < 0.05
            and abs(missing + sound.shape[1] / 16_000 - promised) < 0.06
        )


@pytest.mark.parametrize("kind, subtype", [("FLAC", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16")])
def test_a_cut_file_that_cannot_be_read_is_named(tmp_path, kind, subtype):
    path = tmp_path / f"a.{kind.lower()}"
    sf.write(path, noise(48_000), 16_000, subtype, format=kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=rf"a.{kind.lower()}: .*damaged or( was)? cut off") as said:
        load(path)
    assert "\n" not in str(said.value)


def test_a_file_cut_before_its_first_sample(tmp_path):
    sf.write(tmp_path / "a.mp3", noise(48_000), 16_000)
    sf.write(tmp_path / "a.ogg", noise(48_000), 16_000)
    for name in ("a.mp3", "a.ogg"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:4_000])
        try:
            sound = load(tmp_path / name)[0]
        except InputError as error:
            assert str(error).startswith(f"{tmp_path / name}: ") and "cut off" in str(error)
        else:
            assert sound.shape[1] < 30_000


@pytest.mark.parametrize(
    "kind, subtype", [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAVEX", "PCM_16")]
)
@pytest.mark.parametrize(
    "sizes",
    [
        (2**32 - 1, 2**32 - 1),
        (2**32 - 1, 2**32 - 37),
        (0, 0),
        (2**32 - 1, 0),
        (8, 0),
        (2**31 - 1, 2**31 - 37),
    ],
)
def test_a_wav_from_a_pipe_is_whole(tmp_path, capsys, kind, subtype, sizes):
    "Sizes of the whole and of the sound, as programs leave them that cannot go back."
    sf.write(tmp_path / "a.wav", noise(5_000, 2), 44_100, subtype, format=kind)
    data, whole = bytearray((tmp_path / "a.wav").read_bytes()), load(tmp_path / "a.wav")[0]
    at = data.index(b"data") + 4
    data[4:8], data[at : at + 4] = (size.to_bytes(4, "little") for size in sizes)
    (tmp_path / "b.wav").write_bytes(data)
    with opened(tmp_path / "b.wav") as file:
        halves = [file.read(n, dtype="float32").T for n in (2_000, 9_000)]
        assert np.array_equal(np.concatenate(halves, 1), whole) and missing_end(file, "b.wav", 5_000) == ""
    assert np.array_equal(load(tmp_path / "b.wav")[0], whole) and capsys.readouterr().err == ""
    assert (tmp_path / "b.wav").read_bytes() == data


def test_formats_of_recorders_are_read(tmp_path, capsys):
    "WAVE_FORMAT_EXTENSIBLE with six channels, RF64, AIFF and CAF of 24 bits: each sample."
    sound = noise(4_000, 6)
    for name, kind in (
        ("a.wav", "WAVEX"),
        ("b.wav", "RF64"),
        ("c.aif", "AIFF"),
        ("d.caf", "CAF"),
        ("e.w64", "W64"),
    ):
        sf.write(tmp_path / name, sound, 48_000, "PCM_24", format=kind)
        got, rate = load(tmp_path / name)
        assert rate == 48_000 and got.shape == (6, 4_000) and abs(got.T - sound).max() <= 2**-23
    assert capsys.readouterr().err == ""


# Threads


def test_standard_error_survives_threads(tmp_path):
    """Sixteen threads read an MP3 that makes its decoder talk; then standard error works, and no descriptor
    is left open.
    """
    sf.write(tmp_path / "a.mp3", noise(30_000), 16_000)
    (tmp_path / "a.mp3").write_bytes((tmp_path / "a.mp3").read_bytes()[:3_000])
    code = (
        "import os, sys\nfrom concurrent.futures import ThreadPoolExecutor\nfrom mambamuse.sound.audio import"
        " decoded_file as read\ndef work(_):\n for _ in range(20):"
        " read(sys.argv[1])\nread(sys.argv[1])\nbefore = sorted(os.listdir('/proc/self/fd'))\nwith"
        " ThreadPoolExecutor(16) as pool: list(pool.map(work, range(16)))\nassert"
        " sorted(os.listdir('/proc/self/fd')) == before\nprint('alive', file=sys.stderr)"
    )
    assert python(code, tmp_path / "a.mp3") == (0, "", "alive\n")


def test_a_line_of_one_thread_is_not_silenced_by_another(tmp_path):
    code = (
        "import threading, time\nfrom mambamuse.errors import quiet, tell\nstarted = threading.Event()\n"
        "def hold():\n with quiet():\n  started.set()\n  time.sleep(.2)\n"
        "t = threading.Thread(target=hold); t.start(); started.wait(); tell('lost: a sample'); t.join()"
    )
    assert python(code) == (0, "", "mambamuse: lost: a sample\n")


def test_a_closed_standard_error_is_no_fault(tmp_path):
    sf.write(tmp_path / "a.mp3", noise(30_000), 16_000)
    code = "import sys\nfrom mambamuse.sound.audio import load; print(load(sys.argv[1])[0].shape)"
    done = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", sys.executable, "-c", code, tmp_path / "a.mp3"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "(1, 30000)\n")


# Names and places


def test_the_longest_name(tmp_path):
    "255 bytes, in any script."
    for name in ("n" * 251 + ".wav", "ä" * 125 + ".flac"):
        save(tmp_path / name, noise(100), 16_000)
        assert load(tmp_path / name)[0].shape == (1, 100)


def test_what_a_killed_program_left_is_no_recording(tmp_path):
    """SIGTERM in the middle of a file: the folder has the part of it, under a hidden name, and nothing takes
    it for a recording.
    """
    save(tmp_path / "a.wav", noise(40_000), 16_000)
    code = (
        "import sys, time, numpy as np\nfrom mambamuse.sound.audio import writer\nwith writer(sys.argv[1],"
        " 16_000, 1) as sink:\n sink.write(np.ones(200_000)/2); print('half', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "o.wav"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
    (left,) = tmp_path.glob(".*.part.wav")
    left.write_bytes((tmp_path / "a.wav").read_bytes())  # at worst, it can be read
    assert recordings(tmp_path) == [tmp_path / "a.wav"] and list(Folder([tmp_path], DataConfig()).files) == [
        "a.wav"
    ]


def test_linked_folders_are_prepared_once(tmp_path):
    (tmp_path / "in").mkdir(), (tmp_path / "else").mkdir()
    (
        save(tmp_path / "in" / "a.wav", noise(40_000), 16_000),
        save(tmp_path / "else" / "b.wav", noise(40_000), 16_000),
    )
    for link, to in (("in/more", "else"), ("in/again", "else"), ("in/loop", "in"), ("in/up", ".")):
        (tmp_path / link).symlink_to(tmp_path / to)
    source = Folder([tmp_path / "in"], DataConfig())
    assert list(source.files) == ["a.wav", "again/b.wav"]
    assert [Path(row[0]).name for row in source.identity()] == ["a.wav", "b.wav"]


def test_a_place_that_is_taken(tmp_path):
    "By a file, one that may only be read, a link to it; and it is the source that counts before --force."
    save(tmp_path / "a.wav", noise(100), 16_000), save(tmp_path / "b.wav", noise(100), 16_000)
    (tmp_path / "b.wav").chmod(0o444), (tmp_path / "c.wav").symlink_to(tmp_path / "b.wav")
    (tmp_path / "d.wav").symlink_to(tmp_path / "absent.wav")
    for name in ("a.wav", "b.wav", "c.wav", "d.wav"):
        with pytest.raises(
            InputError,
            match=(
                f"{name}: exists; name another file to write, or add --force .in Python: force=True. to"
                " replace it"
            ),
        ):
            check_place(tmp_path / name)
        assert check_place(tmp_path / name, tmp_path / "none.wav", force=True) == tmp_path / name
    with pytest.raises(InputError, match="c.wav: is what is read"):
        check_place(tmp_path / "c.wav", tmp_path / "b.wav", force=True)
    assert check_place(tmp_path / "new.wav", tmp_path / "a.wav") == tmp_path / "new.wav"


def test_what_is_no_file_is_not_read_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/null"):
        with pytest.raises(
            InputError, match="is a pipe or a device; a file is needed, which can be read twice"
        ):
            load(path)
        with pytest.raises(InputError, match="is a pipe or a device; name a file to write"):
            check_place(path, force=True)
    save(tmp_path / "a.wav", noise(100), 16_000)
    code = (
        "from mambamuse.sound.audio import InputError, load\ntry: print(load('/dev/stdin')[0].shape)\nexcept"
        " InputError as e: print(e)"
    )
    with open(tmp_path / "a.wav", "rb") as file:
        assert python(code, stdin=file)[1] == "(1, 100)\n"
    piped = subprocess.run(
        [sys.executable, "-c", code], input=(tmp_path / "a.wav").read_bytes(), capture_output=True
    ).stdout
    assert piped == b"/dev/stdin: is a pipe or a device; a file is needed, which can be read twice\n"
