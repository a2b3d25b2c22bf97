"""Judging: lists of pairs and their faults, known answers through the whole path, the same numbers every time, and runs that were cut off."""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambamuse.audio import SAMPLE_RATE, InputError, load, save
from mambamuse.baselines import METHODS
from mambamuse.evaluate import COLUMNS, System, evaluate, pair_folders, read_pairs, score_columns, shipped_pairs
from mambamuse.generator import MambaMuse


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    "Four pairs: outputs that are the target, the content with its sign flipped, the style, and silence."
    folder, rows = tmp_path_factory.mktemp("four"), []
    for (_, row), make in zip(shipped_pairs("notes").head(4).iterrows(), (lambda c, s, t: t, lambda c, s, t: -c, lambda c, s, t: s, lambda c, s, t: 0*c)):
        sounds = [load(row[kind])[0][0] for kind in ("content", "style", "target")]
        save(folder/f"{row.pair}.wav", make(*sounds), SAMPLE_RATE)
        rows.append(dict(pair=row.pair, content=row.content, style=row.style, target=row.target, output=f"{row.pair}.wav", family=row.family))
    pd.DataFrame(rows).to_csv(folder/"pairs.csv", index=False)
    evaluate(read_pairs(folder/"pairs.csv"), folder/"out", [System("output", given="output")], workers=2)
    return folder


def test_known_answers_through_the_whole_path(four):
    scores = pd.read_csv(four/"out"/"scores.csv")
    target, flipped, style, silence = (row for _, row in scores.iterrows())
    assert len(scores) == 4 and list(scores.columns[-len(COLUMNS) - 2:]) == [*COLUMNS, "family_accuracy", "fad"]
    assert max(target[["lsd_cifka", "lsd_cifka_50", "lsd", "mr_stft", "timbre_distance", "pitch_distance", "mfcc_distance"]]) < 1e-3
    assert flipped[["rpa", "onset_f1", "chroma_cosine"]].tolist() == pytest.approx([1, 1, 1], abs=1e-3)  # against the content
    assert flipped.abs_corr_content == pytest.approx(1, abs=1e-4) and abs(target.abs_corr_content) < .9
    assert silence.abs_corr_content == 0 and np.isfinite(silence[COLUMNS].astype(float).drop("f0_difference", errors="ignore")).all()
    assert scores.fad.nunique() == 1 and scores.fad[0] > 0


def test_the_trivial_rows_are_what_they_must_be(four):
    base = pd.read_csv(four/"out"/"baselines.csv").set_index("system")
    assert base.groupby(level=0).size().to_dict() == dict.fromkeys(["the target", *METHODS], 4)
    content, style = base.loc["CP-CONTENT"], base.loc["CP-STYLE"]
    assert content.abs_corr_content.to_numpy() == pytest.approx(np.ones(4), abs=1e-4)
    assert content.pitch_distance.mean() < style.pitch_distance.mean() and style.timbre_distance.mean() < content.timbre_distance.mean()
    table = pd.read_csv(four/"out"/"table.csv").set_index(["system", "metric"])
    assert table.value["CP-CONTENT", "joint"] == table.value["CP-STYLE", "joint"] == 0
    inside = table.dropna()
    assert (inside.low <= inside.value + 1e-9).all() and (inside.value <= inside.high + 1e-9).all() and (table.n == 4).all()


def test_the_same_run_gives_the_same_numbers_and_costs_nothing(four):
    before = {name: (four/"out"/name).read_bytes() for name in ("results.jsonl", "scores.csv", "baselines.csv", "table.csv", "table.md", "index.html")}
    stamps = {p: p.stat().st_mtime_ns for p in (four/"out"/"outputs").rglob("*.flac")}
    evaluate(read_pairs(four/"pairs.csv"), four/"out", [System("output", given="output")], workers=1)
    assert before == {name: (four/"out"/name).read_bytes() for name in before}
    assert len(stamps) == 16 and stamps == {p: p.stat().st_mtime_ns for p in stamps}


def test_what_was_cut_off_is_done_again_with_the_same_result(four):
    results = four/"out"/"results.jsonl"
    before, lines = pd.read_csv(four/"out"/"scores.csv"), results.read_text().splitlines(keepends=True)
    results.write_text("".join(lines[:-1]) + lines[-1][:40])
    evaluate(read_pairs(four/"pairs.csv"), four/"out", [System("output", given="output")], workers=1)
    pd.testing.assert_frame_equal(before, pd.read_csv(four/"out"/"scores.csv"))
    whole = [json.loads(line) for line in results.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    assert len({result["key"] for result in whole}) == 24


def test_other_outputs_are_other_results(four, tmp_path):
    pairs = read_pairs(four/"pairs.csv").head(1)
    changed = pairs.assign(output=pairs["style"])
    a, b = (score_columns(evaluate_rows(p, tmp_path)) for p in (pairs, changed))
    assert a.timbre_distance[0] < 1e-3 < b.timbre_distance[0] and len((tmp_path/"results.jsonl").read_text().splitlines()) >= 2


def evaluate_rows(pairs, out):
    from mambamuse.evaluate import results
    return results(pairs, [System("output", given="output")], out, workers=1)


def test_own_recordings_need_no_answer(tmp_path, mambamuse):
    "Two folders, stereo at 44.1 kHz; scores that need a target are empty, the rest are numbers."
    for kind, tones in (("contents", (220, 330)), ("styles", (440,))):
        (tmp_path/kind).mkdir()
        for hz in tones:
            t = np.arange(3*44_100)/44_100
            save(tmp_path/kind/f"{hz}.wav", .5*np.stack([np.sin(2*np.pi*hz*t), np.sign(np.sin(2*np.pi*hz*t))]), 44_100)
    code, stdout, err = mambamuse("evaluate", "--content", tmp_path/"contents", "--style", tmp_path/"styles", "--method", "envelope", "--out", tmp_path/"out", "--workers", 1)
    assert code == 0, err
    scores = pd.read_csv(tmp_path/"out"/"scores.csv")
    assert len(scores) == 2 and scores.system.tolist() == ["envelope"]*2 and "CP-STYLE" in stdout
    assert scores[["lsd_cifka", "mr_stft", "si_sdr", "family_accuracy"]].isna().all(axis=None)
    assert scores[["timbre_distance", "pitch_distance", "rpa", "abs_corr_content", "fad"]].notna().all(axis=None)
    assert set(pair_folders(tmp_path/"contents", tmp_path/"styles")["style"].map(lambda p: Path(p).name)) == {"440.wav"}
    assert "<audio" in (tmp_path/"out"/"index.html").read_text() and "n = 2 pairs" in (tmp_path/"out"/"table.md").read_text()


def test_weights_are_judged_under_their_name(tmp_path, mambamuse):
    MambaMuse(widths=(4, 8, 16, 32), axis="clip").save_pretrained(tmp_path/"weights")
    code, stdout, err = mambamuse("evaluate", "--set", "notes", "--first", 1, "--weights", f"mine={tmp_path/'weights'}", "--out", tmp_path/"out", "--workers", 1)
    assert code == 0 and "mine" in stdout, err
    assert len(pd.read_csv(tmp_path/"out"/"scores.csv")) == 1 and (tmp_path/"out"/"outputs"/"mine"/"note-00.flac").is_file()


def test_paths_in_the_scores_count_from_the_list(four):
    "So that a table can move with its sounds; those of outputs made here count from the table's folder."
    given, made = (pd.read_csv(four/"out"/name) for name in ("scores.csv", "baselines.csv"))
    assert given.output.tolist() == [f"{pair}.wav" for pair in given.pair] and all((four/path).is_file() for kind in ("content", "style", "target") for path in given[kind])
    ours = made[made.system != "the target"].output
    assert all((four/"out"/path).is_file() for path in ours) and not any(Path(path).is_absolute() for frame in (given, made) for kind in ("content", "style", "target", "output") for path in frame[kind])


@pytest.mark.parametrize("damage, says", [(lambda path: path.write_text("not audio"), "b.wav: not audio"), (lambda path: save(path, np.zeros(0), SAMPLE_RATE), "b.wav: there are no samples")])
def test_a_corrupt_recording_leaves_no_folder(tmp_path, damage, says):
    (tmp_path/"pairs.csv").write_text("content,style\na.wav,a.wav\nb.wav,a.wav\n")
    save(tmp_path/"a.wav", np.ones(9_000)/2, SAMPLE_RATE), damage(tmp_path/"b.wav")
    with pytest.raises(InputError, match=says): evaluate(read_pairs(tmp_path/"pairs.csv"), tmp_path/"out", [], workers=1)
    assert not (tmp_path/"out").exists()


@pytest.mark.parametrize("text,says", [
    ("content\na.wav\n", "no column style"), ("content,style\n", "no pairs"), ("content,style\nnone.wav,a.wav\n", "line 2, content: no such file"),
    ("content,style\na.wav,\n", "line 2 has no style"), ("pair,content,style\n1,a.wav,a.wav\n1,a.wav,a.wav\n", "there twice"), ("", "not a CSV file"),
])
def test_a_bad_list_is_one_line(tmp_path, text, says):
    (tmp_path/"pairs.csv").write_text(text)
    save(tmp_path/"a.wav", np.ones(100)/2, SAMPLE_RATE)
    with pytest.raises(InputError, match=says): read_pairs(tmp_path/"pairs.csv")


@pytest.mark.parametrize("words,says", [
    (["--out", "out"], "pairs from one place"), (["--set", "notes", "--pairs", "x.csv", "--out", "out"], "pairs from one place"), (["--set", "chords", "--out", "out"], "there are notes, phrases"),
    (["--content", "here", "--out", "out"], "needs --style"), (["--pairs", "none.csv", "--out", "out"], "no such file"), (["--set", "notes", "--method", "magic", "--out", "out"], "there is no method"),
    (["--set", "notes", "--weights", "nowhere", "--out", "out"], "not a weights folder"), (["--content", "none", "--style", "none", "--out", "out"], "no such folder"),
])
def test_bad_words_are_one_line(tmp_path, mambamuse, words, says):
    code, stdout, err = mambamuse("evaluate", *words, cwd=tmp_path)
    assert code == 2 and not stdout and err.count("\n") == 1 and says in err, err
    assert not list(tmp_path.iterdir())
