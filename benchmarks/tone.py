"""What do five bands behind the network change, and would others change more?

    python benchmarks/tone.py SET=FOLDER[,FOLDER] ... [--out benchmarks/tone.csv]

Validation triplets of prepared folders, by the measures of the search (judge/search), means (|corr|: median);
lower is better in all of them. The shipped weights, without the tone (share 0), with it as it is (5 bands,
31 taps, share 0.5), and with other shares, numbers of bands and lengths of their filters. As loud as the
network made it.

In the table, "short" are the folders of the search (runs/search, triplets of 1.05 s); "long", of 2.1 s, is
what `mambamuse prepare --source instruments --arm paired --valid 64 --seed 7 data.clip=33600` with
data.generated=0.5 and data.coloured=0.5 makes of the same three soundfonts.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from mambamuse.judge.profiling import machine
from mambamuse.judge.search import MEASURES, judge, triplets
from mambamuse.model.weights import load_model
from mambamuse.sound import bands
from mambamuse.sound.paths import written_beside
from mambamuse.use import tone

SHARES = (0.0, 0.5, 0.25, 0.75, 1.0)
OTHERS = {(3, 31): 500, (8, 31): 100, (8, 63): 100, (16, 127): 100}  # bands and taps, from which Hz on


def spaced(bands: int, lowest: float) -> np.ndarray:
    "The edges in Hz between `bands` from `lowest` to 8 kHz equally wide to an ear (Glasberg, Moore)."
    first, last = (21.4 * np.log10(1 + 0.00437 * f) for f in (lowest, 8_000))
    inner = np.linspace(first, last, bands + 1)[1:-1]
    return (10 ** (inner / 21.4) - 1) / 0.00437


def form(edges, taps: int) -> None:
    "Other bands for `mambamuse.use.tone`."
    bands.EDGES, bands.TAPS = tuple(edges), taps
    tone.TAPS, tone.LATE = taps, taps // 2
    tone.BANDS = bands.band_passes()
    tone.LAGS = bands.products_of(tone.BANDS)


def compared(clips: list):
    "Rows of all forms and shares, for `triplets`."
    model, known = load_model(device="cpu"), {}
    model.tone = 0.0

    def plain(content, style):
        key = content.tobytes() + style.tobytes()
        if key not in known:
            known[key] = model.transfer(content, style, keep_level=True)
        return known[key]

    def judged(share: float) -> dict:
        def made(content, style):
            return tone.toned(plain(content, style)[None], tone.band_levels(style[None]), share)[0]

        rows = judge(made if share else plain, clips)
        return {name: rows[name].median() if name == "abs_corr" else rows[name].mean() for name in MEASURES}

    own = bands.EDGES, bands.TAPS
    for share in SHARES:
        yield dict(bands=len(tone.BANDS), taps=tone.TAPS, share=share) | judged(share)
    for (count, taps), lowest in OTHERS.items():
        form(spaced(count, lowest), taps)
        yield dict(bands=count, taps=taps, share=0.5) | judged(0.5)
    form(*own)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="SET=FOLDER[,FOLDER]")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    rows = []
    for text in arguments.sets:
        name, _, folders = text.partition("=")
        clips = triplets(dict(enumerate(folders.split(","))))
        for found in compared(clips):
            numbers = {key: f"{value:.4g}" if key in MEASURES else value for key, value in found.items()}
            rows.append(dict(set=name) | numbers | dict(n=len(clips), cpu=machine()["cpu"]))
            print(*rows[-1].values(), flush=True)
    with written_beside(arguments.out) as part:
        pd.DataFrame(rows).to_csv(part, index=False)


if __name__ == "__main__":
    main()
