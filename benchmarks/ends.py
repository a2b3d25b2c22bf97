"""Does a transfer click at its ends? All pairs of both test sets, each whole and cut in three ways, by the
shipped weights.

    python benchmarks/ends.py [--out benchmarks/ends.csv]

A rise is by how many decibels the first or last 5 ms stand above the loudest of the ten pieces of 5 ms beside
them, levels
below -70 dB of full scale counted as that. What counts is a transfer's rise beyond its content's: more than 1
dB is a click.
"""

import argparse
import platform

import numpy as np
import pandas as pd
from tqdm import tqdm

from mambamuse.judge.pairs import shipped_pairs
from mambamuse.model.weights import load_model
from mambamuse.sound.audio import SAMPLE_RATE, load
from mambamuse.sound.paths import written_beside
from mambamuse.use.style import Style
from mambamuse.use.transfer import transfer

EDGE, FLOOR, MOST = SAMPLE_RATE * 5 // 1_000, -70, 1


def level(x):
    return max(20 * np.log10(np.abs(x).max() + 1e-9), FLOOR)


def rise(x, at_end):
    "Of `x (time,)`, in dB."
    x = x[::-1] if at_end else x
    return level(x[:EDGE]) - max(level(x[EDGE * k : EDGE * (k + 1)]) for k in range(1, 11))


def cuts(x):
    middle = x.shape[1] // 2
    return {
        "whole": x,
        "cut hard at both ends": x[:, 2_037:middle],
        "cut in mid-note": x[:, : middle // 2 + 11],
        "in silence": np.pad(x[:, :8_000], ((0, 0), (3_000, 8_000))),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="benchmarks/ends.csv")
    args = parser.parse_args()
    network, rows = load_model().network(), []
    pairs = [(name, row) for name in ("notes", "phrases") for row in shipped_pairs(name).itertuples()]
    for name, pair in tqdm(pairs, "pairs"):
        style = Style.of(network, pair.style)
        for cut, x in cuts(load(pair.content)[0]).items():
            y = transfer(x, style, network=network)
            beyond = [rise(y[0], end) - max(rise(x[0], end), 0) for end in (False, True)]
            rows.append(dict(set=name, cut=cut, start=beyond[0], end=beyond[1]))
    table = (
        pd.DataFrame(rows)
        .groupby(["set", "cut"], sort=False)
        .agg(
            n=("start", "size"),
            starts_over_1_dB=("start", lambda x: (x > MOST).sum()),
            worst_start_dB=("start", "max"),
            ends_over_1_dB=("end", lambda x: (x > MOST).sum()),
            worst_end_dB=("end", "max"),
        )
        .round(2)
        .reset_index()
    )
    with written_beside(args.out) as part:
        table.assign(machine=platform.machine()).to_csv(part, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
