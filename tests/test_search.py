"""A search trains and judges nothing twice, goes on where it stopped, and spends what it says."""

import pandas as pd
import pytest

from mambamuse.data.config import DataConfig
from mambamuse.data.prepare import prepare
from mambamuse.errors import InputError
from mambamuse.judge import search as module
from mambamuse.judge.search import (
    COPY,
    SHARED,
    candidate_folder,
    candidate_model,
    collect,
    overrides,
    search,
    spent,
)

TINY = ("model.widths=[2,2,2,2]", *SHARED[1:])
FEW = dict(a=("mixed", ()), b=("mixed", ("model.sets=2",)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "data"
    prepare([], folder, DataConfig(train=8, valid=2, test=1, clip=8_000), "instruments")
    return dict(mixed=folder)


def test_a_search_goes_on_where_it_stopped(data, tmp_path):
    out = tmp_path / "out"
    assert search(out, data, data, 0.02, minutes=1e-9, candidates=FEW, shared=TINY).empty
    assert module.stage("a", 0, out, data, data, 0.02, float("inf"), 42, FEW, TINY)
    weights = [
        (p, p.stat().st_mtime_ns) for p in sorted(candidate_folder(out, "a").rglob("*")) if p.is_file()
    ]
    table = search(out, data, data, 0.02, candidates=FEW, shared=TINY)
    assert weights == [
        (p, p.stat().st_mtime_ns) for p in sorted(candidate_folder(out, "a").rglob("*")) if p.is_file()
    ]  # a is not touched
    assert set(table.candidate) == {"a", "b", COPY} and table.equals(collect(out))
    assert len(pd.read_csv(out / "rows.csv")) == 3 * 2


def test_a_second_round_adds_to_the_first(data, tmp_path):
    out = tmp_path / "out"
    search(out, data, data, 0.02, least=1, candidates=FEW, shared=TINY)
    best = next(name for name in FEW if (candidate_folder(out, name) / "round-1.csv").is_file())
    first, second = (pd.read_csv(candidate_folder(out, best) / f"round-{turn}.csv") for turn in (0, 1))
    assert first.minutes[0] >= 0.02 and second.minutes[0] >= 0.04
    more = first.minutes[0] < 0.04  # else one step of a busy machine has used up both rounds
    assert (second.steps[0] > first.steps[0]) == more and second.steps[0] >= first.steps[0]
    assert spent(candidate_folder(out, best)) == pytest.approx(second.minutes[0])
    model, steps = candidate_model(candidate_folder(out, best))
    assert steps == second.steps[0] and model.sets == (2 if best == "b" else 1)


def test_wrong_names_and_fields_end_it_before_a_step(data, tmp_path):
    with pytest.raises(InputError, match="no candidate 'c'"):
        overrides("c", FEW)
    for wrong, says in (
        (dict(a=("mixed", ("model.size=2",))), "no field size"),
        (dict(a=("mixed", ("loss.mel_ffts=[100]",))), "windows of the mel loss"),
        (dict(a=("none", ())), "no data 'none'"),
    ):
        with pytest.raises(InputError, match=says):
            search(tmp_path / "out", data, data, 0.02, candidates=wrong, shared=TINY)
    assert not list(tmp_path.rglob("metrics.jsonl"))
