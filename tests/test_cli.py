"""The command, as a musician meets it: real files in, real files out, one line when something is wrong."""

import numpy as np
import pytest
import soundfile as sf
import torch

from mambamuse.data.notes import MINI
from mambamuse.model.generator import MambaMuse


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    "A folder with weights, sounds and things that are not sounds."
    d = tmp_path_factory.mktemp("studio")
    torch.manual_seed(0)
    MambaMuse(widths=(4, 8, 16, 32)).save_pretrained(d / "weights")
    rng = np.random.default_rng(0)
    sf.write(d / "stereo.flac", rng.uniform(-0.5, 0.5, (30_001, 2)), 44_100)
    sf.write(d / "style.mp3", rng.uniform(-0.5, 0.5, 20_000), 22_050)
    sf.write(d / "click.wav", np.array([0.5]), 48_000)
    sf.write(d / "anti.wav", np.outer(rng.uniform(-0.5, 0.5, 8_000), (1, -1)), 16_000)
    sf.write(d / "silence.wav", np.zeros(8_000), 16_000)
    sf.write(d / "nan.wav", np.array([0, np.nan, 0]), 16_000, subtype="FLOAT")
    sf.write(d / "inf.wav", np.array([0, np.inf, 0]), 16_000, subtype="FLOAT")
    (d / "folder.wav").mkdir()
    (d / "empty.wav").touch()
    (d / "text.wav").write_text("not audio")
    (d / "song.mp3").write_text("not a song")
    return d


def test_transfer_keeps_rate_channels_and_length(mambamuse, studio):
    for suffix in ("wav", "flac", "ogg", "mp3"):
        code, out, err = mambamuse(
            "transfer",
            "stereo.flac",
            "style.mp3",
            "-o",
            f"out.{suffix}",
            "--alpha",
            ".7",
            "--weights",
            "weights",
            cwd=studio,
        )
        assert (
            code == 0
            and out == f"out.{suffix}\n"
            and all("does not clip" in line or "is written as" in line for line in err.splitlines())
        ), err
        info = sf.info(studio / f"out.{suffix}")
        assert (info.samplerate, info.channels, info.frames) == (44_100, 2, 30_001)
    audio, _ = sf.read(studio / "out.wav")
    assert np.isfinite(audio).all() and audio.std() > 1e-3


def test_command_and_python_agree(mambamuse, studio):
    assert (
        mambamuse(
            "transfer", "stereo.flac", "style.mp3", "-o", "cli.wav", "--weights", "weights", cwd=studio
        )[0]
        == 0
    )
    from mambamuse.model.weights import load_model

    audio = load_model(studio / "weights").transfer(studio / "stereo.flac", str(studio / "style.mp3"))
    assert np.abs(sf.read(studio / "cli.wav")[0].T - audio.clip(-1, 1)).max() < 2**-14


@pytest.mark.parametrize("content", ["silence.wav", "click.wav"])
def test_silent_and_very_short_content_is_no_error(mambamuse, studio, content):
    code, _, err = mambamuse(
        "transfer", content, "style.mp3", "-o", "short.wav", "--force", "--weights", "weights", cwd=studio
    )
    assert code == 0, err
    assert sf.info(studio / "short.wav").frames == sf.info(studio / content).frames
    if content == "silence.wav":
        assert not sf.read(studio / "short.wav")[0].any()


@pytest.mark.parametrize(
    "content,style,out,more,says",
    [
        ("absent.wav", "style.mp3", "bad.wav", [], "absent.wav: no such file"),
        ("folder.wav", "style.mp3", "bad", [], "mambamuse: folder.wav: no recordings in it"),
        (
            "folder.wav",
            "style.mp3",
            "bad.wav",
            [],
            "folder.wav: is a folder, so -o names a folder, too, and not the file bad.wav",
        ),
        ("song.mp3", "style.mp3", "bad.wav", [], "song.mp3: not audio"),
        ("stereo.flac", "absent.wav", "bad.wav", [], "absent.wav: no such file"),
        ("empty.wav", "style.mp3", "bad.wav", [], "empty.wav: the file is empty"),
        ("text.wav", "style.mp3", "bad.wav", [], "text.wav: not audio"),
        ("nan.wav", "style.mp3", "bad.wav", [], "nan.wav: there are NaN or infinite"),
        ("stereo.flac", "inf.wav", "bad.wav", [], "inf.wav: there are NaN or infinite"),
        ("stereo.flac", "silence.wav", "bad.wav", [], "the style is silent"),
        ("stereo.flac", "anti.wav", "bad.wav", [], "nothing is left of the style when its channels are one"),
        ("stereo.flac", "click.wav", "bad.wav", [], "the style is shorter than 0.05 s"),
        ("stereo.flac", "style.mp3", "bad.wav", ["--alpha", "1.1"], "alpha is 1.1"),
        ("stereo.flac", "style.mp3", "bad.wav", ["--alpha", "-0.1"], "alpha is -0.1"),
        ("stereo.flac", "style.mp3", "bad.wav", ["--alpha", "nan"], "alpha is nan"),
        ("stereo.flac", "style.mp3", "bad.txt", [], "cannot write .txt"),
        ("stereo.flac", "style.mp3", "bad", [], "a file without suffix"),
        ("stereo.flac", "style.mp3", "nowhere/bad.wav", [], "no such folder"),
        ("stereo.flac", "style.mp3", "folder.wav", [], "is a folder"),
        ("stereo.flac", "style.mp3", "bad.wav", ["--weights", "nowhere"], "not a weights folder"),
    ],
)
def test_bad_input_is_one_line(mambamuse, studio, content, style, out, more, says):
    code, stdout, err = mambamuse(
        "transfer",
        content,
        style,
        "-o",
        out,
        *(more if "--weights" in more else [*more, "--weights", "weights"]),
        cwd=studio,
    )
    assert (
        code == 2 and stdout == "" and err.count("\n") == 1 and err.startswith("mambamuse: ") and says in err
    ), err
    assert not list(studio.glob("*bad*")) and not list(studio.glob(".*"))


@pytest.mark.parametrize(
    "config,says",
    [
        ("not json", "do not load"),
        ("[1, 2]", "and nothing else"),
        ('{"width": [4, 8, 16, 32]}', "and nothing else"),
        (
            '{"widths": [4, 8, 16, 32], "axis": "frame", "alphas": [1, 1, 1, 1, 1, 1]}',
            "expected 5 numbers from 0 to 1, or 9",
        ),
        (
            '{"widths": [4, 8, 16, 32], "axis": "frame", "alphas": ["a", 1, 1, 1, 1]}',
            "expected a list of 5 to 9 (number from 0 to 1)",
        ),
        ('{"widths": [4, 8, 16, 64], "axis": "frame", "alphas": [1, 1, 1, 1, 0]}', "do not load"),
        (
            '{"widths": [4, 8, 16, 32], "axis": "frame", "alphas": [1, 1, 1, 1, 0], "axle": 1}',
            "and nothing else",
        ),
    ],
)
def test_a_bad_config_is_one_line(mambamuse, studio, tmp_path, config, says):
    (tmp_path / "model.safetensors").write_bytes((studio / "weights" / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(config)
    code, _, err = mambamuse(
        "transfer", "stereo.flac", "style.mp3", "-o", "bad.wav", "--weights", tmp_path, cwd=studio
    )
    assert code == 2 and err.count("\n") == 1 and says in err, err


def test_nothing_of_the_user_is_replaced(mambamuse, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")
    tiny = ["data.train=8", "data.valid=2", "data.test=2"]
    for words in (("prepare", "--out", "data", *tiny), ("reproduce", "--out", ".", *tiny)):
        code, _, err = mambamuse(*words, cwd=tmp_path)
        assert code == 2 and "data: exists" in err, err
    assert (tmp_path / "data" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "words",
    [
        ["transfer", "stereo.flac", "style.mp3", "-o"],
        ["style", "style.mp3", "-o"],
        ["live", "style.mp3", "--content", "click.wav", "-o"],
    ],
    ids=lambda words: words[0],
)
def test_what_exists_is_replaced_only_by_force(mambamuse, studio, tmp_path, words):
    there = tmp_path / ("a.style" if words[0] == "style" else "a.wav")
    there.write_bytes(b"mine")
    code, _, err = mambamuse(*words, there, cwd=studio)
    assert code == 2 and err.count("\n") == 1 and "exists" in err and "--force" in err, err
    assert there.read_bytes() == b"mine"
    assert mambamuse(*words, there, "--force", cwd=studio)[0] == 0
    assert there.read_bytes() != b"mine"


def test_a_failed_write_leaves_the_old_file(mambamuse, studio):
    (studio / "kept.mp3").write_bytes(b"old")
    sf.write(studio / "fast.wav", np.full(100, 0.1), 96_000)  # MP3 has no 96 kHz
    code, _, err = mambamuse(
        "transfer", "fast.wav", "style.mp3", "-o", "kept.mp3", "--force", "--weights", "weights", cwd=studio
    )
    assert code == 2 and "cannot write MP3" in err and (studio / "kept.mp3").read_bytes() == b"old"


def test_prepare_train_and_transfer_by_hand(mambamuse, tmp_path):
    notes = ["data.train=8", "data.valid=2", "data.test=2", "data.clip=9600"]
    tiny = [*notes, "model.widths=[4,8,16,32]", "training.batch=4", "training.epochs=1"]
    assert (
        mambamuse("prepare", "--out", "data", *notes, cwd=tmp_path)[1] == "data: 8 train, 2 valid, 2 test\n"
    )
    code, out, err = mambamuse(
        "train", "--data", "data", "--out", "runs/mine", "--arm", "as_written", *tiny, cwd=tmp_path
    )
    assert code == 0 and out.startswith("runs/mine: 2 steps, 1 epochs"), err
    note = next((MINI / "nsynth-test" / "audio").iterdir())
    assert mambamuse("transfer", note, note, cwd=tmp_path)[0] == 0  # the package's weights
    named = tmp_path / f"{note.stem}-as-{note.stem}.wav"
    assert sf.info(named).frames == 64_000
    assert (
        mambamuse("transfer", note, note, "-o", "mine.wav", "--weights", "runs/mine/epoch-001", cwd=tmp_path)[
            0
        ]
        == 0
    )
    assert (tmp_path / "mine.wav").read_bytes() != named.read_bytes()
    code, _, err = mambamuse("train", "--data", "data", "--out", "runs/mine", *tiny, cwd=tmp_path)
    assert code == 2 and "already holds a run" in err
