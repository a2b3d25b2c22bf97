"""The ablation compares what it says it compares, and trains nothing twice."""

import json
import os
import signal
from threading import Thread
from time import sleep

import numpy as np
import pandas as pd
import pytest

from mambamuse.data.config import DataConfig
from mambamuse.data.notes import MINI
from mambamuse.data.prepare import prepare
from mambamuse.data.triplets import Triplets
from mambamuse.errors import InputError
from mambamuse.judge.ablation import (
    BASE,
    CHOICES,
    COPY,
    MEASURES,
    SMALLER,
    choice_folder,
    choices_summary,
    judge_choice,
    judge_copy,
    score,
    train_choice,
    undone,
    verdicts,
)
from mambamuse.judge.baselines import METHODS
from mambamuse.judge.metrics import measure
from mambamuse.judge.tables import JUDGES
from mambamuse.judge.timbre import timbre_distance
from mambamuse.learn.recipes import differences, recipe

TINY = ("model.widths=[2,2,2,2]", "training.ema=0.5", "loss.lambda_adversarial=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notes") / "data"
    prepare(MINI, folder, DataConfig(train=40, valid=6, test=1, clip=4_112, latest_start=1))
    return folder


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_changes_the_fields_that_it_names_and_no_other(choice):
    named = {text.partition("=")[0] for text in CHOICES[choice]}
    assert (
        set(differences(recipe("paired", "half", SMALLER), recipe("paired", "half", undone(choice)))) == named
    )
    assert len(named) == len(CHOICES[choice]) and bool(named) == (choice != BASE)


def test_no_two_choices_are_the_same():
    "Neither the recipes nor the folders."
    recipes = [recipe("paired", "half", undone(choice)) for choice in CHOICES]
    assert len(set(recipes)) == len({choice_folder("out", choice) for choice in CHOICES}) == len(CHOICES)


def test_a_choice_that_undoes_nothing_is_refused(monkeypatch):
    with pytest.raises(InputError, match="there is no choice 'nothing'; there are the recipe, "):
        undone("nothing")
    monkeypatch.setitem(CHOICES, "half", ("training.reconstruct=0", "loss.lambda_stft=1.0"))
    with pytest.raises(InputError, match="half: loss.lambda_stft=1.0 is what the arm paired does already"):
        undone("half")


def test_what_is_trained_is_not_trained_again_and_others_are_refused(data, tmp_path):
    train_choice(BASE, tmp_path, data, 2, smaller=TINY)
    run = choice_folder(tmp_path, BASE)
    about = json.loads((run / "run.json").read_text())
    assert about["training"]["steps"] == about["training"]["epoch_steps"] == 2 and [
        p.name for p in run.glob("epoch-*")
    ] == ["epoch-001"]
    timings, weights = (
        (run / "timings.jsonl").read_bytes(),
        (run / "epoch-001" / "model.safetensors").stat().st_mtime_ns,
    )
    train_choice(BASE, tmp_path, data, 2, smaller=TINY)
    assert (run / "timings.jsonl").read_bytes() == timings and (
        run / "epoch-001" / "model.safetensors"
    ).stat().st_mtime_ns == weights
    for steps, seed, named in ((3, 42, "epoch_steps was 2, is 3"), (2, 1, "seed was 42, is 1")):
        with pytest.raises(InputError, match=f"of another configuration: .*training.{named}"):
            train_choice(BASE, tmp_path, data, steps, seed, TINY)
    with pytest.raises(InputError, match="no weights yet"):
        judge_choice("transfer only", tmp_path, data)
    rows = judge_choice(BASE, tmp_path, data)
    assert len(rows) == len(Triplets(data, "valid")) and np.isfinite(rows[list(MEASURES)].to_numpy()).all()


def test_a_run_that_is_stopped_is_not_taken_for_a_finished_one(data, tmp_path):
    log = choice_folder(tmp_path, BASE) / "metrics.jsonl"

    def terminate():
        while not log.exists() or not log.stat().st_size:
            sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)  # train hears it, as from the first step on

    Thread(target=terminate, daemon=True).start()
    with pytest.raises(
        InputError, match=r"the recipe: stopped after \d+ of 8 steps \(SIGTERM\); the same call goes on"
    ):
        train_choice(BASE, tmp_path, data, 8, smaller=TINY)
    train_choice(BASE, tmp_path, data, 8, smaller=TINY)
    assert log.read_text().count("\n") == 8


def test_the_content_is_judged_as_every_notebook_judges_it(data):
    rows, triplets = judge_copy(data), Triplets(data, "valid")
    assert set(rows.choice) == {COPY} == {"CP-CONTENT"} & set(METHODS)
    for i, row in rows.iterrows():
        content, style, target = triplets[i].numpy()
        theirs = measure(
            JUDGES, METHODS[COPY](content, style), dict(content=content, style=style, target=target)
        )
        for name in ("lsd_cifka_50", "lsd_cifka", "mfcc_distance", "timbre_distance", "abs_corr_content"):
            assert row[name] == theirs[name], name
        assert (
            row.plain_corr == 1
            and row.plain_lsd == row.half_between == 0
            and row.half_style == timbre_distance(content, style)
        )


def test_known_answers(data):
    content, style, target = Triplets(data, "valid")[0].numpy()
    perfect = score(
        lambda content, style, alpha: {0: -content, 0.5: content + target, 1: style}[alpha],
        content,
        style,
        style,
    )
    assert (
        perfect["plain_corr"] == -1 and perfect["plain_lsd"] == 0
    )  # a flipped copy is a copy, and told from an upright one
    assert (
        perfect["lsd_cifka_50"]
        == perfect["lsd_cifka"]
        == perfect["mfcc_distance"]
        == perfect["timbre_distance"]
        == 0
    )
    between = 0 < timbre_distance(content + target, style) < timbre_distance(content, style)
    assert perfect["half_between"] == between
    back = score(
        lambda content, style, alpha: {0: content, 0.5: style, 1: content}[alpha], content, style, target
    )
    assert back["half_between"] == 0 == back["half_style"]


def test_a_change_is_told_triplet_by_triplet():
    """Two systems, the second always 0.1 above the first: their intervals overlap by far, that of the change
    has no width.
    """
    values = np.random.default_rng(0).normal(5, 3, 30)
    made = pd.DataFrame(
        [
            dict(choice=choice, triplet=i, instrument=i % 10, **{measure: value + up for measure in MEASURES})
            for choice, up in (("above", 0.1), (BASE, 0))
            for i, value in enumerate(values)
        ]
    )
    table = choices_summary(made).set_index(["choice", "metric"])
    above, base = table.loc["above"], table.loc[BASE]
    assert (
        above.change.to_numpy() == pytest.approx(0.1)
        and above.change_low.to_numpy() == pytest.approx(0.1)
        and above.change_high.to_numpy() == pytest.approx(0.1)
    )
    assert (
        (above.low < base.value).all()
        and (base.value < above.value).all()
        and not base[["change", "change_low", "change_high"]].to_numpy().any()
    )
    assert (
        base.value.abs_corr_content
        == np.median(values)
        != base.value.lsd_cifka
        == pytest.approx(values.mean())
    )
    expected = {"lower": "worse", "higher": "better"}
    assert verdicts(table.reset_index()).loc["above"].to_dict() == {
        measure: expected[better] for measure, (_, better) in MEASURES.items() if better
    }
    with pytest.raises(InputError, match="no change can be told without 'the recipe'"):
        choices_summary(made[made.choice == "above"])
