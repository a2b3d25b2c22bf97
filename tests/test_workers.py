"""The same evaluation by processes of this machine and by a Dask cluster that loses a worker."""

import os
import signal
import time
from threading import Thread

import pytest

from mambamuse.errors import InputError
from mambamuse.judge.evaluate import BASELINES, results
from mambamuse.judge.pairs import shipped_pairs
from mambamuse.judge.workers import working


def scores(out, **how):
    "The scores of two baselines on three pairs, by system and pair."
    made = results(shipped_pairs("notes").head(3), BASELINES[:2], out, **how)
    return {(row.system, row.pair): row.scores for row in made.itertuples()}


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def test_a_cluster_that_loses_a_worker_gives_the_same_scores(cluster, tmp_path):
    first = next(iter(cluster.workers.values()))
    killed = []

    def kill():
        "The first worker, as soon as one result is there."
        log = tmp_path / "there" / "results.jsonl"
        while not (log.exists() and log.read_text().count("\n")):
            time.sleep(0.02)
        os.kill(first.pid, signal.SIGKILL)
        killed.append(first.pid)

    killer = Thread(target=kill, daemon=True)
    killer.start()
    there = scores(tmp_path / "there", scheduler=cluster.scheduler_address)
    killer.join(60)
    assert killed and there == scores(tmp_path / "here") and len(there) == 6


def test_a_scheduler_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match="no Dask scheduler answers there") as refused:
        with working("tcp://127.0.0.1:9"):
            pass
    assert "\n" not in str(refused.value)
