"""How close does live come to the same transfer of a file, which knows the whole recording?

    python benchmarks/causal.py [--out benchmarks/causal.csv] [--every 3]

Every third pair of both test sets, with the shipped weights: the file's transfer, and what live plays, cut
to the same samples. The distance is the log-spectral one of judge/metrics (`lsd_cifka_50`, dB); the row
"content" says how far the file's transfer is from the content, for scale. `warm_up`: seconds for which live
takes the content to have the style's statistics.
"""

import argparse
import csv
import os
from pathlib import Path

import numpy as np

from mambamuse.judge.metrics import loudness_difference, lsd_cifka_50
from mambamuse.judge.pairs import mono, shipped_pairs
from mambamuse.judge.profiling import machine
from mambamuse.sound.audio import SAMPLE_RATE
from mambamuse.sound.paths import written_beside
from mambamuse.use.levels import fade_ends, hold_start, tail
from mambamuse.use.live import WARM_UP, Live
from mambamuse.use.step import Carried, Running, Step
from mambamuse.use.style import Style
from mambamuse.use.tone import RunningTone
from mambamuse.use.transfer import transfer

SPANS = {"first second": slice(0, SAMPLE_RATE), "after it": slice(SAMPLE_RATE, None), "whole": slice(None)}


def played(live: Live, content: np.ndarray) -> np.ndarray:
    "What `live_file` writes of `content (time,)`, without waiting for the clock."
    padded = np.concatenate([content, tail(content[None])[0]])
    padded = np.pad(padded, (0, -len(padded) % live.block))
    heard = np.concatenate([live(block) for block in padded.reshape(-1, live.block)])
    heard = heard[live.delay : live.delay + len(content)]
    return hold_start(fade_ends(heard[None], 0, len(content)), content[None])[0]


def compared(every: int):
    "Rows: medians over pairs of the distance and of the size of the loudness difference."
    network = Carried()
    for name in ("notes", "phrases"):
        found = {}
        for _, pair in shipped_pairs(name).iloc[::every].iterrows():
            content = mono(pair.content)
            style = Style.of(network, mono(pair["style"]))
            file = np.atleast_2d(transfer(content, style, network=network))[0]
            outputs = {"content": content}
            for warm_up in (0.5, WARM_UP):
                step = Step(network.step(), style.statistics, network.alphas, Running(warm_up=warm_up))
                tone = RunningTone(style.tone, network.tone)
                outputs[f"live, warm_up {warm_up:g}"] = played(Live(step, tone=tone), content)
            for what, y in outputs.items():
                for span, at in SPANS.items():
                    distance = lsd_cifka_50(y[at], file[at])
                    louder = abs(loudness_difference(y[at], file[at]))
                    found.setdefault((what, span), []).append((distance, louder))
        for (what, span), values in found.items():
            distance, louder = np.nanmedian(values, 0)
            yield dict(set=name, what=what, span=span, lsd_db=distance, loudness_lu=louder, n=len(values))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--every", type=int, default=3)
    arguments = parser.parse_args()
    about = dict(machine=f"{machine()['cpu']}, {os.cpu_count()} cores")
    rows = []
    for row in compared(arguments.every):
        row |= dict(lsd_db=f"{row['lsd_db']:.2f}", loudness_lu=f"{row['loudness_lu']:.2f}") | about
        print(*row.values(), flush=True)
        rows.append(row)
    with written_beside(arguments.out) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
