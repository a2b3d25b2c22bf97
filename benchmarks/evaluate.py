"""How long judging takes: 100 pairs of the shipped test sets, by the full-size generator (fresh weights)
beside the rows of every table.

    python benchmarks/evaluate.py [--pairs 50]

writes benchmarks/evaluate.csv: seconds, judgements (pairs x systems) and processes, from an empty folder,
imports and start of the processes included.
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch

from mambamuse.judge.evaluate import System, evaluate
from mambamuse.judge.pairs import shipped_pairs
from mambamuse.judge.profiling import machine
from mambamuse.model.generator import MambaMuse
from mambamuse.sound.paths import written_beside


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=50, help="of each of the two test sets")
    pairs, rows = parser.parse_args().pairs, []
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as d:
        MambaMuse().save_pretrained(f"{d}/weights")
        for kind in ("notes", "phrases"):
            began = perf_counter()
            table = evaluate(
                shipped_pairs(kind).head(pairs),
                f"{d}/{kind}",
                [System("fresh", weights=f"{d}/weights")],
                kind,
            )
            rows.append(
                dict(
                    set=kind,
                    pairs=pairs,
                    systems=table.system.nunique(),
                    judgements=pairs * table.system.nunique(),
                    seconds=round(perf_counter() - began, 1),
                )
            )
    made = pd.DataFrame(rows).assign(
        processes=os.cpu_count(), cpu=machine()["cpu"], torch=torch.__version__, n=1
    )
    with written_beside(Path(__file__).with_name("evaluate.csv")) as part:
        made.to_csv(part, index=False)
    print(made.to_string(index=False))


if __name__ == "__main__":
    main()
