"""What the package's weights make of three pairs: the samples and the scores that `runs/choose` kept, so that
no change degrades them unseen.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambamuse.judge.evaluate import System, results
from mambamuse.judge.pairs import mono, shipped_pairs
from mambamuse.judge.tables import score_columns
from mambamuse.model.generator import SHIPPED

GOLDEN = Path(__file__).with_name("golden")
KEPT = pd.read_csv(GOLDEN / "scores.csv").set_index("pair")


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    "The same pairs, transferred and scored now."
    pairs = pd.concat([shipped_pairs(kind) for kind in ("phrases", "notes")])
    those = pairs.set_index("pair").loc[KEPT.index].reset_index()
    ours = System("paired", weights=str(SHIPPED))
    return score_columns(results(those, [ours], tmp_path_factory.mktemp("golden"), 1)).set_index("pair")


@pytest.mark.parametrize("pair", KEPT.index)
def test_the_output_is_the_one_that_was_kept(pair, again):
    kept, made = mono(GOLDEN / f"{pair}.flac"), mono(again.output[pair])
    assert len(kept) == len(made) and abs(kept).max() > 0.1
    assert np.abs(kept - made).max() < 2e-3


@pytest.mark.parametrize("metric", KEPT.columns)
def test_the_scores_are_those_that_were_kept(metric, again):
    assert again[metric][KEPT.index].to_numpy() == pytest.approx(KEPT[metric].to_numpy(), rel=0.02, abs=0.005)


def test_they_are_nearer_to_the_answer_than_the_content_is():
    copied = pd.read_csv(GOLDEN / "content.csv").set_index("pair")
    assert (KEPT.lsd_cifka_50 < copied.lsd_cifka_50[KEPT.index]).all()
