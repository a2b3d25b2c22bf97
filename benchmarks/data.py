"""How fast is the data step, how much memory does it take, is it the same twice, and does the loader keep up?

    python benchmarks/data.py --path FluidR3_GM.sf2 --path TimGM6mb.sf2 [--notes 20200] [--phrases 200] [--out
    benchmarks/data.csv]

Renders an NSynth-like archive from the soundfonts, prepares it as NSynth is prepared, twice, and renders
pairs of phrases. Needs the
extra `synth`, about 6 GB of disk and ten minutes. Every command runs in a process of its own; its peak memory
is the kernel's (ru_maxrss).
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from isal import igzip
from torch.utils.data import DataLoader

from mambamuse.data.config import DataConfig
from mambamuse.data.notes import Clips
from mambamuse.data.soundfonts import Notes
from mambamuse.data.sources import in_order, members
from mambamuse.judge.profiling import machine
from mambamuse.sound.paths import written_beside

ROWS = []
WORKERS = 2


def row(measurement, value, unit, n, command=""):
    "One line of the table, with the machine of this process."
    about = dict(command=command, machine=machine()["cpu"])
    ROWS.append(dict(measurement=measurement, value=value, unit=unit, n=n, **about))
    print("{measurement:66} {value!s:>12} {unit:14} n={n}".format(**ROWS[-1]), flush=True)


def run(folder, *words, code=0):
    """`mambamuse WORDS` in `folder`, pinned to two cores, expected to exit with `code`: seconds, peak memory
    in MB.
    """
    began = perf_counter()
    child = subprocess.Popen(
        [Path(sys.executable).with_name("mambamuse"), *map(str, words)],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:WORKERS]),
    )
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) != code:
        sys.exit(f"failed: mambamuse {' '.join(map(str, words))}")
    return perf_counter() - began, usage.ru_maxrss / 1024


def full_index(folder):
    """Archives with as many entries as NSynth (289,205 / 12,678 / 4,096) and no audio; preparing 41,600 /
    3,200 / 128 must index all, and then refuse.
    """
    entry = dict(
        note=0,
        note_str="",
        instrument=0,
        instrument_str="",
        pitch=60,
        velocity=100,
        sample_rate=16_000,
        qualities=[0] * 10,
        qualities_str=["dark", "fast_decay"],
        instrument_family=3,
        instrument_family_str="guitar",
        instrument_source=0,
        instrument_source_str="acoustic",
    )
    for split, n in dict(train=289_205, valid=12_678, test=4_096).items():
        names = [f"guitar_acoustic_{i // 100:04d}-{i % 100:03d}-100" for i in range(n)]
        text = json.dumps(
            {
                name: {**entry, "note": i, "note_str": name, "instrument_str": name[:20]}
                for i, name in enumerate(names)
            }
        ).encode()
        with (
            igzip.open(folder / f"nsynth-{split}.jsonwav.tar.gz", "wb") as file,
            tarfile.open(fileobj=file, mode="w|") as tar,
        ):
            members = {
                f"nsynth-{split}/examples.json": text,
                **{f"nsynth-{split}/audio/{name}.wav": b"" for name in names},
            }
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def loader(folder, workers, clips=2_000):
    "Clips a second that come out of the loader in batches of 32; the median of three passes."
    data, rates = Clips(folder, "train"), []
    for _ in range(3):
        began, seen = perf_counter(), 0
        for batch in DataLoader(data, 32, num_workers=workers, shuffle=True):
            seen += len(batch)
            if seen >= clips:
                break
        rates.append(seen / (perf_counter() - began))
    return round(median(rates))


def main(fonts, notes, phrases, folder):
    names, paths = [f.name for f in fonts], [word for f in fonts for word in ("--path", f)]
    source = Notes(fonts, DataConfig())
    entries = {name: entry for name, entry, _ in source.index("train")}
    some = {name: entries[name] for name in sorted(entries)[:2_000]}  # by instrument, as a set is rendered
    began = perf_counter()
    for _ in in_order(((name, lambda e=e: source.row(e, "test")) for name, e in some.items()), WORKERS):
        pass
    row(
        "rendering 4 s notes, WAV encoding included",
        round(len(some) / (perf_counter() - began)),
        "notes/s",
        len(some),
        f"Notes({names}), {WORKERS} threads",
    )

    split = dict(valid=notes * 6 // 100, test=notes * 2 // 100)
    split["train"] = notes - sum(split.values())
    words = ["data", "render", "--out", "nsynth", *(w for s, n in split.items() for w in (f"--{s}", n))]
    seconds, peak = run(folder, *words, *paths)
    notes = sum(
        sum(1 for member, _ in members(path) if member.isreg()) - 1
        for path in (folder / "nsynth").glob("*.gz")
    )  # without the silent ones
    row(
        "an NSynth-like archive, rendered and compressed",
        round(notes / seconds),
        "notes/s",
        notes,
        f"mambamuse {' '.join(map(str, words))} ({', '.join(names)})",
    )
    size = sum(f.stat().st_size for f in (folder / "nsynth").glob("*.gz")) / 1e6
    row("its size", round(size), "MB", notes)

    ask = dict(
        train=int(0.5 * split["train"]), valid=int(0.4 * split["valid"]), test=int(0.4 * split["test"])
    )
    reports = []
    for out in ("first", "second"):
        words = [
            "prepare",
            "--source",
            "nsynth",
            "--path",
            "nsynth",
            "--out",
            out,
            "--workers",
            WORKERS,
            *(w for s, n in ask.items() for w in (f"--{s}", n)),
        ]
        seconds, peak = run(folder, *words)
        row(
            "that archive prepared: notes read",
            round(notes / seconds),
            "notes/s",
            notes,
            f"mambamuse {' '.join(map(str, words))}",
        )
        row("that archive prepared: seconds", round(seconds, 1), "s", sum(ask.values()))
        row("that archive prepared: peak memory", round(peak), "MB", notes)
        reports.append(json.loads((folder / out / "report.json").read_text()))
    row(
        "shards whose SHA-256 is the same the second time",
        sum(reports[0]["files"][f] == reports[1]["files"][f] for f in reports[0]["files"]),
        f"of {len(reports[0]['files'])}",
        2,
    )
    for key in ("read", "kept", "chosen"):
        row(f"report: {key}", sum(reports[0][key].values()), "notes", notes)
    for key in ("filtered", "skipped"):
        row(f"report: {key}", sum(sum(v.values()) for v in reports[0][key].values()), "notes", notes)

    (folder / "index").mkdir()
    full_index(folder / "index")
    words = ["prepare", "--source", "nsynth", "--path", "index", "--out", "none", "--workers", WORKERS]
    seconds, peak = run(folder, *words, code=2)
    row(
        "as many entries and members as NSynth has, no audio: peak memory",
        round(peak),
        "MB",
        305_979,
        f"mambamuse {' '.join(map(str, words))} (indexes all, then refuses)",
    )

    for workers in (0, WORKERS):
        row(f"loader, {workers} workers", loader(folder / "first", workers), "clips/s", 3)

    words = [
        "prepare",
        "--source",
        "phrases",
        "--out",
        "pairs",
        "--train",
        phrases,
        "--valid",
        phrases // 10,
        "--test",
        phrases // 10,
        "data.clip=64000",
    ]
    seconds, peak = run(folder, *words, *paths)
    n = phrases + 2 * (phrases // 10)
    row(
        "triplets of 4 s phrases prepared",
        round(n / seconds, 1),
        "triplets/s",
        n,
        f"mambamuse {' '.join(map(str, words))} ({', '.join(names)})",
    )
    row("triplets of 4 s phrases: peak memory", round(peak), "MB", n)


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument(
        "--path", type=Path, action="append", required=True, help="a soundfont; the option can be repeated"
    )
    args.add_argument("--notes", type=int, default=20_200)
    args.add_argument("--phrases", type=int, default=200)
    args.add_argument("--out", type=Path, default=Path(__file__).with_name("data.csv"))
    given = args.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main([p.resolve() for p in given.path], given.notes, given.phrases, Path(scratch))
    row("machine", json.dumps(machine()), "", 1)
    with written_beside(given.out) as part, open(part, "w", newline="") as file:
        table = csv.DictWriter(file, list(ROWS[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(ROWS)
