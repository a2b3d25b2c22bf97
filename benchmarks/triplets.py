"""How fast are triplets made, and in how much memory?

    python benchmarks/triplets.py --path FluidR3_GM.sf2 --path TimGM6mb.sf2 --path MuseScore_General_Full.sf3
    [--triplets 3000] [--out benchmarks/triplets.csv]

Prepares triplets of 1.05 s from soundfonts, from drawn instruments, and from both, on two cores, each in a
process of its own. The seconds
are those of the clock, so the machine should have nothing else to do; the processor's seconds beside them
tell whether it had.
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from data import ROWS, WORKERS, row, run

from mambamuse.judge.profiling import machine
from mambamuse.sound.paths import written_beside


def measure(folder: Path, name: str, n: int, words: list):
    "Prepare `n` triplets of a kind with the command's `words`, and note how fast that went."
    words = [
        "prepare",
        "--out",
        folder / name.replace(" ", "-"),
        "--arm",
        "paired",
        "--size",
        "half",
        "--train",
        n,
        "--valid",
        16,
        "--test",
        16,
        "--workers",
        WORKERS,
        *words,
    ]
    before = getrusage(RUSAGE_CHILDREN)
    seconds, peak = run(folder, *words)
    after = getrusage(RUSAGE_CHILDREN)
    command = f"mambamuse {' '.join(Path(str(word)).name for word in words)}"
    row(f"{name}: prepared", round((n + 32) / seconds, 1), "triplets/s", n, command)
    row(
        f"{name}: processor",
        round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "s",
        n,
        command,
    )
    row(f"{name}: clock", round(seconds, 1), "s", n, command)
    row(f"{name}: peak memory", round(peak), "MB", n, command)


def main(fonts, n, folder):
    paths = [word for f in fonts for word in ("--path", f)]
    measure(folder, "phrases from soundfonts", n, ["--source", "phrases", *paths])
    measure(folder, "drawn instruments", n, ["--source", "instruments"])
    measure(
        folder,
        "drawn instruments and soundfonts",
        n,
        ["--source", "instruments", *paths, "data.generated=0.5"],
    )


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument(
        "--path", type=Path, action="append", required=True, help="a soundfont; the option can be repeated"
    )
    args.add_argument("--triplets", type=int, default=3_000)
    args.add_argument("--out", type=Path, default=Path(__file__).with_name("triplets.csv"))
    given = args.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main([p.resolve() for p in given.path], given.triplets, Path(scratch))
    row("machine", json.dumps(machine()), "", 1)
    with written_beside(given.out) as part, open(part, "w", newline="") as file:
        table = csv.DictWriter(file, list(ROWS[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(ROWS)
