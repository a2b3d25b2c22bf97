"""Judging: lists of pairs and their faults, known answers through the whole path, the same numbers every
time, and runs that were cut off.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambamuse.errors import InputError
from mambamuse.judge.baselines import METHODS
from mambamuse.judge.evaluate import BASELINES, LOADED, System, evaluate, named_weights, results
from mambamuse.judge.pairs import pair_folders, read_pairs, shipped_pairs
from mambamuse.judge.tables import COLUMNS, limits, score_columns, summary, wide
from mambamuse.model.generator import MambaMuse
from mambamuse.sound.audio import SAMPLE_RATE, load, save


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    "Four pairs: outputs that are the target, the content with its sign flipped, the style, and silence."
    folder, rows = tmp_path_factory.mktemp("four"), []
    for (_, row), make in zip(
        shipped_pairs("notes").head(4).iterrows(),
        (lambda c, s, t: t, lambda c, s, t: -c, lambda c, s, t: s, lambda c, s, t: 0 * c),
    ):
        sounds = [load(row[kind])[0][0] for kind in ("content", "style", "target")]
        save(folder / f"{row.pair}.wav", make(*sounds), SAMPLE_RATE)
        rows.append(
            dict(
                pair=row.pair,
                content=row.content,
                style=row.style,
                target=row.target,
                output=f"{row.pair}.wav",
                family=row.family,
            )
        )
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    evaluate(read_pairs(folder / "pairs.csv"), folder / "out", [System("output", given="output")], workers=2)
    return folder


def test_known_answers_through_the_whole_path(four):
    scores = pd.read_csv(four / "out" / "scores.csv")
    target, flipped, style, silence = (row for _, row in scores.iterrows())
    assert len(scores) == 4 and list(scores.columns[-len(COLUMNS) - 2 :]) == [
        *COLUMNS,
        "family_accuracy",
        "fad",
    ]
    assert (
        max(
            target[
                [
                    "lsd_cifka",
                    "lsd_cifka_50",
                    "lsd",
                    "mr_stft",
                    "timbre_distance",
                    "pitch_distance",
                    "mfcc_distance",
                ]
            ]
        )
        < 1e-3
    )
    assert flipped[["rpa", "onset_f1", "chroma_cosine"]].tolist() == pytest.approx(
        [1, 1, 1], abs=1e-3
    )  # against the content
    assert flipped.abs_corr_content == pytest.approx(1, abs=1e-4) and abs(target.abs_corr_content) < 0.9
    assert (
        silence.abs_corr_content == 0
        and np.isfinite(silence[COLUMNS].astype(float).drop("f0_difference", errors="ignore")).all()
    )
    assert scores.fad.isna().all()  # 4 pairs have 20 windows of a second


def test_the_trivial_rows_are_what_they_must_be(four):
    base = pd.read_csv(four / "out" / "baselines.csv").set_index("system")
    assert base.groupby(level=0).size().to_dict() == dict.fromkeys(["the target", *METHODS], 4)
    content, style = base.loc["CP-CONTENT"], base.loc["CP-STYLE"]
    assert content.abs_corr_content.to_numpy() == pytest.approx(np.ones(4), abs=1e-4)
    assert (
        content.pitch_distance.mean() < style.pitch_distance.mean()
        and style.timbre_distance.mean() < content.timbre_distance.mean()
    )
    table = pd.read_csv(four / "out" / "table.csv").set_index(["system", "metric"])
    assert table.value["CP-CONTENT", "joint"] == table.value["CP-STYLE", "joint"] == 0
    assert (table.n == 4).all() and table[["low", "high"]].isna().all(axis=None)  # no interval of four values


def test_few_pairs_say_what_they_cannot_support(tmp_path):
    """Fewer than six instruments: no interval. Thirteen pairs of 2.1 s: 65 windows, so a FAD, but not without
    an instrument, so no interval of it; its extrapolation needs 26.
    """
    thirteen = shipped_pairs("notes").head(13)
    rows = results(thirteen, BASELINES[:2], tmp_path, workers=2)
    for n in (1, 5, 6, 12, 13):
        pairs = thirteen.head(n)
        table = summary(rows[rows.pair.isin(pairs.pair)], pairs)
        found, said = table.dropna(), limits(table, pairs)
        several = pairs.style_instrument.nunique()
        assert (table.instruments[table.metric == "lsd_cifka"] == several).all()
        assert (several >= 6) == (len(found) > 0) and not found.metric.isin(["fad", "fad_infinity"]).any()
        assert (found.low <= found.value + 1e-9).all() and (found.value <= found.high + 1e-9).all()
        assert ("fad" in set(table.metric)) == (n == 13) and "fad_infinity" not in set(table.metric)
        count = f"{n} pair" + "s" * (n > 1)
        few = f"{count}, {several} instrument{'s' * (several > 1)}: no intervals, they need 6"
        assert (few in said) == (several < 6) == ("[" not in wide(table).to_string())
        assert (
            sum(line.startswith(f"{count}: no fad") for line in said) == (1 if n == 13 else 2)
            and "it needs 130 windows" in said[-1]
        )


def test_the_same_run_gives_the_same_numbers_and_costs_nothing(four):
    before = {
        name: (four / "out" / name).read_bytes()
        for name in (
            "results.jsonl",
            "scores.csv",
            "baselines.csv",
            "table.csv",
            "differences.csv",
            "table.md",
            "index.html",
        )
    }
    stamps = {p: p.stat().st_mtime_ns for p in (four / "out" / "outputs").rglob("*.flac")}
    evaluate(read_pairs(four / "pairs.csv"), four / "out", [System("output", given="output")], workers=1)
    assert before == {name: (four / "out" / name).read_bytes() for name in before}
    assert len(stamps) == 16 and stamps == {p: p.stat().st_mtime_ns for p in stamps}


def test_what_was_cut_off_is_done_again_with_the_same_result(four):
    results = four / "out" / "results.jsonl"
    before, lines = pd.read_csv(four / "out" / "scores.csv"), results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:-1]) + lines[-1][:40])
    evaluate(read_pairs(four / "pairs.csv"), four / "out", [System("output", given="output")], workers=1)
    pd.testing.assert_frame_equal(before, pd.read_csv(four / "out" / "scores.csv"))
    whole = [
        json.loads(line)
        for line in results.read_text().splitlines()
        if line.startswith("{") and line.endswith("}")
    ]
    assert len({result["key"] for result in whole}) == 24


def test_other_outputs_are_other_results(four, tmp_path):
    pairs = read_pairs(four / "pairs.csv").head(1)
    changed = pairs.assign(output=pairs["style"])
    a, b = (score_columns(evaluate_rows(p, tmp_path)) for p in (pairs, changed))
    assert (
        a.timbre_distance[0] < 1e-3 < b.timbre_distance[0]
        and len((tmp_path / "results.jsonl").read_text().splitlines()) >= 2
    )


def evaluate_rows(pairs, out):
    return results(pairs, [System("output", given="output")], out, workers=1)


def test_own_recordings_need_no_answer(tmp_path, mambamuse):
    "Two folders, stereo at 44.1 kHz; scores that need a target are empty, the rest are numbers."
    for kind, tones in (("contents", (220, 330)), ("styles", (440,))):
        (tmp_path / kind).mkdir()
        for hz in tones:
            t = np.arange(3 * 44_100) / 44_100
            save(
                tmp_path / kind / f"{hz}.wav",
                0.5 * np.stack([np.sin(2 * np.pi * hz * t), np.sign(np.sin(2 * np.pi * hz * t))]),
                44_100,
            )
    code, stdout, err = mambamuse(
        "evaluate",
        "--content",
        tmp_path / "contents",
        "--style",
        tmp_path / "styles",
        "--method",
        "envelope",
        "--out",
        tmp_path / "out",
        "--workers",
        1,
    )
    assert code == 0, err
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert len(scores) == 2 and scores.system.tolist() == ["envelope"] * 2 and "CP-STYLE" in stdout
    assert scores[["lsd_cifka", "mr_stft", "si_sdr", "family_accuracy"]].isna().all(axis=None)
    assert scores[["timbre_distance", "pitch_distance", "rpa", "abs_corr_content"]].notna().all(axis=None)
    assert "2 pairs, 1 style: no intervals, they need 6" in err
    assert set(
        pair_folders(tmp_path / "contents", tmp_path / "styles")["style"].map(lambda p: Path(p).name)
    ) == {"440.wav"}
    assert (
        "<audio" in (tmp_path / "out" / "index.html").read_text()
        and "n = 2 pairs" in (tmp_path / "out" / "table.md").read_text()
    )


def test_weights_are_judged_under_their_name(tmp_path, mambamuse):
    MambaMuse(widths=(4, 8, 16, 32), axis="clip").save_pretrained(tmp_path / "weights")
    code, stdout, err = mambamuse(
        "evaluate",
        "--set",
        "notes",
        "--first",
        1,
        "--weights",
        f"mine={tmp_path / 'weights'}",
        "--out",
        tmp_path / "out",
        "--workers",
        1,
    )
    assert code == 0 and "mine" in stdout, err
    assert (
        len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 1
        and (tmp_path / "out" / "outputs" / "mine" / "note-00.flac").is_file()
    )


def test_paths_in_the_scores_count_from_the_list(four):
    "So that a table can move with its sounds; those of outputs made here count from the table's folder."
    given, made = (pd.read_csv(four / "out" / name) for name in ("scores.csv", "baselines.csv"))
    assert given.output.tolist() == [f"{pair}.wav" for pair in given.pair] and all(
        (four / path).is_file() for kind in ("content", "style", "target") for path in given[kind]
    )
    ours = made[made.system != "the target"].output
    assert all((four / "out" / path).is_file() for path in ours) and not any(
        Path(path).is_absolute()
        for frame in (given, made)
        for kind in ("content", "style", "target", "output")
        for path in frame[kind]
    )


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda path: path.write_text("not audio"), "b.wav: not audio"),
        (lambda path: save(path, np.zeros(0), SAMPLE_RATE), "b.wav: there are no samples"),
    ],
)
def test_a_corrupt_recording_leaves_no_folder(tmp_path, damage, says):
    (tmp_path / "pairs.csv").write_text("content,style\na.wav,a.wav\nb.wav,a.wav\n")
    save(tmp_path / "a.wav", np.ones(9_000) / 2, SAMPLE_RATE), damage(tmp_path / "b.wav")
    with pytest.raises(InputError, match=says):
        evaluate(read_pairs(tmp_path / "pairs.csv"), tmp_path / "out", [], workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text,says",
    [
        ("content\na.wav\n", "no column style"),
        ("content,style\n", "no pairs"),
        ("content,style\nnone.wav,a.wav\n", "line 2, content: no such file"),
        ("content,style\na.wav,\n", "line 2 has no style"),
        ("pair,content,style\n1,a.wav,a.wav\n1,a.wav,a.wav\n", "there twice"),
        ("pair,content,style\nx,a.wav,a.wav\n,a.wav,a.wav\n", "a pair has no name"),
        ("pair,content,style\nX,a.wav,a.wav\nx,a.wav,a.wav\n", "only in upper and lower case"),
        ("", "not a CSV file"),
    ],
)
def test_a_bad_list_is_one_line(tmp_path, text, says):
    (tmp_path / "pairs.csv").write_text(text)
    save(tmp_path / "a.wav", np.ones(100) / 2, SAMPLE_RATE)
    with pytest.raises(InputError, match=says):
        read_pairs(tmp_path / "pairs.csv")


@pytest.mark.parametrize(
    "words,says",
    [
        (["--out", "out"], "pairs from one place"),
        (["--set", "notes", "--pairs", "x.csv", "--out", "out"], "pairs from one place"),
        (["--set", "chords", "--out", "out"], "there are notes, phrases"),
        (["--content", "here", "--out", "out"], "needs --style"),
        (["--pairs", "none.csv", "--out", "out"], "no such file"),
        (["--set", "notes", "--method", "magic", "--out", "out"], "there is no method"),
        (["--set", "notes", "--weights", "nowhere", "--out", "out"], "not a weights folder"),
        (["--content", "none", "--style", "none", "--out", "out"], "no such folder"),
        (["--set", "notes", "--device", "gpu", "--out", "out"], "device is gpu, expected cpu"),
    ],
)
def test_bad_words_are_one_line(tmp_path, mambamuse, words, says):
    code, stdout, err = mambamuse("evaluate", *words, cwd=tmp_path)
    assert code == 2 and not stdout and err.count("\n") == 1 and says in err, err
    assert not list(tmp_path.iterdir())


def test_names_are_text_and_become_safe_files(tmp_path):
    """Ids that would leave the folder, differ only in what a file's name cannot have, or look like numbers or
    nothing: each has its own file, inside.
    """
    ids = ["../../x", "/tmp/x", "001", "1", "nan", "a/b", "a_b"]
    save(tmp_path / "a.wav", np.sin(np.arange(9_000) / 9) / 2, SAMPLE_RATE)
    (tmp_path / "pairs.csv").write_text(
        "pair,content,style,family\n" + "".join(f"{name},a.wav,a.wav,\n" for name in ids)
    )
    pairs, out = read_pairs(tmp_path / "pairs.csv"), tmp_path / "deep" / "er" / "out"
    before = {p for p in tmp_path.rglob("*")}
    rows = results(pairs, [System("copy", method="CP-STYLE")], out, workers=1)
    assert rows.pair.tolist() == ids and rows.output[2].endswith("copy/001.flac")
    names = ["x/epoch-001", "x_epoch-001", "../up"]
    more = results(pairs.head(1), [System(name, method="CP-STYLE") for name in names], out, workers=1)
    made = [*rows.output, *more.output]
    assert more.system.tolist() == names and len(set(made)) == len(ids) + 3
    assert all(Path(path).resolve().is_relative_to(out.resolve()) and Path(path).is_file() for path in made)
    assert {p for p in tmp_path.rglob("*") if not p.is_relative_to(tmp_path / "deep")} == before and not Path(
        "/tmp/x.flac"
    ).exists()


@pytest.mark.parametrize(
    "names, says",
    [
        (["mine", "Mine"], "only in upper and lower case"),
        (["envelope"], "the system envelope is there twice"),
        (["the target"], "the system the target is there twice"),
        (["CP-content"], "only in upper and lower case"),
        ([""], "a system has no name"),
    ],
)
def test_two_systems_of_one_name_end_it_before_anything_is_computed(tmp_path, names, says):
    with pytest.raises(InputError, match=says):
        evaluate(
            shipped_pairs("notes").head(1),
            tmp_path / "out",
            [System(name, method="CP-STYLE") for name in names],
            workers=1,
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="the system mine is there twice"):
        evaluate(
            shipped_pairs("notes").head(1),
            tmp_path / "out",
            [System("mine", method="CP-STYLE"), System("mine", method="musaicing")],
            workers=1,
        )
    assert not (tmp_path / "out").exists()


def test_weights_in_a_folder_with_an_equals_sign(tmp_path, monkeypatch, mambamuse):
    "As run names have it, with a name and without, and beside a folder that is called like one half."
    folder = "runs/half-training.epochs=3/epoch-003"
    MambaMuse(widths=(4, 8, 16, 32), axis="clip").save_pretrained(tmp_path / folder)
    (tmp_path / "3").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (
        named_weights(folder) == (folder, folder)
        and named_weights(f"mine={folder}") == ("mine", folder)
        and named_weights(f"a={folder}/.") == ("a", f"{folder}/.")
    )
    code, stdout, err = mambamuse(
        "evaluate",
        "--set",
        "notes",
        "--first",
        1,
        "--weights",
        folder,
        "--weights",
        f"mine={folder}",
        "--out",
        "out",
        "--workers",
        1,
        cwd=tmp_path,
    )
    assert code == 0, err
    assert pd.read_csv(tmp_path / "out" / "scores.csv").system.tolist() == [folder, "mine"]
    assert len(list((tmp_path / "out" / "outputs").iterdir())) == 6  # four methods and two systems
    for given in ("runs/training.epochs=4/epoch-003", "mine=runs/none"):
        code, _, err = mambamuse(
            "evaluate", "--set", "notes", "--weights", given, "--out", "new", cwd=tmp_path
        )
        assert (
            code == 2
            and "not a weights folder" in err
            and given.removeprefix("mine=") in err
            and not (tmp_path / "new").exists()
        )


def test_a_silent_style_names_its_file(tmp_path):
    "Before anything is computed; a method can do without a sound in it."
    MambaMuse(widths=(4, 8, 16, 32), axis="clip").save_pretrained(tmp_path / "weights")
    (tmp_path / "pairs.csv").write_text("content,style\na.wav,a.wav\na.wav,b.wav\n")
    (
        save(tmp_path / "a.wav", np.sin(np.arange(40_000) / 9) / 2, SAMPLE_RATE),
        save(tmp_path / "b.wav", np.full((2, 30_000), 1e-40), SAMPLE_RATE, "FLOAT"),
    )
    pairs = read_pairs(tmp_path / "pairs.csv")
    with pytest.raises(InputError, match=r"b.wav: the style is silent"):
        evaluate(pairs, tmp_path / "out", [System("mine", weights=str(tmp_path / "weights"))], workers=1)
    assert not (tmp_path / "out").exists()
    assert len(evaluate(pairs, tmp_path / "out", [System("again", method="CP-STYLE")], workers=1))


def test_a_cut_recording_is_told_once(tmp_path, capfd):
    save(tmp_path / "a.wav", np.sin(np.arange(40_000) / 9) / 2, SAMPLE_RATE)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:60_044])
    (tmp_path / "pairs.csv").write_text("content,style\nb.wav,a.wav\na.wav,b.wav\n")
    evaluate(read_pairs(tmp_path / "pairs.csv"), tmp_path / "out", [], workers=2)
    assert capfd.readouterr().err.count("b.wav: was cut off, the last 0.62 s of 2.50 s are missing") == 1


def test_weights_on_a_device_run_in_this_process_and_score_the_same(tmp_path):
    """As on a card, of which this machine may have none: cpu:0 is the same processor by another name. Two
    workers judge and never load the model.
    """
    MambaMuse(widths=(4, 8, 16, 32), axis="clip").save_pretrained(tmp_path / "weights")
    system, pairs = System("mine", weights=str(tmp_path / "weights")), shipped_pairs("notes").head(3)
    there, here = (
        results(
            pairs,
            [system, System("envelope", method="envelope")],
            tmp_path / device.replace(":", "-"),
            2,
            device,
        )
        for device in ("cpu", "cpu:0")
    )
    assert score_columns(there).drop(columns="output").equals(score_columns(here).drop(columns="output"))
    assert [Path(a).read_bytes() == Path(b).read_bytes() for a, b in zip(there.output, here.output)] == [
        True
    ] * 6
    assert [device for known, device in LOADED if known == system] == ["cpu:0"]
