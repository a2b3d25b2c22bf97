"""The way back from each published number and picture: figures/origins.csv, for readers figures/ORIGINS.md.

    python benchmarks/origins.py record python benchmarks/scan.py     run a command; note what it made
    python benchmarks/origins.py publish runs/as_run-smoke            copy a run's figures, with their origins
    python benchmarks/origins.py note --command "..." figures/x.csv   note what was made without `record`
    python benchmarks/origins.py page                                 write figures/ORIGINS.md again

Published is what lies in figures/, and each table in benchmarks/. Each has a row of its own: the command
that made it, for how many seconds, on which machine, with which seed, at which commit (with a + if the
checkout had changes that were not committed), and on what it rests. A row holds the file's SHA-256; a test
fails if the file is another.
"""

import argparse
import csv
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from time import perf_counter

from mambamuse.errors import InputError
from mambamuse.judge.profiling import machine
from mambamuse.reproduce.manifest import Record, read_manifest
from mambamuse.reproduce.origins import commit, fingerprint
from mambamuse.sound.paths import written_beside
from mambamuse.sound.records import read_json

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("file", "command", "seconds", "machine", "seed", "commit", "rests on", "sha256")
UNKNOWN = "not recorded"
AT_LEAST = "at least "  # seconds, where a part of the work was killed before it could write down its own
OURS = ("origins.csv", "ORIGINS.md")  # say where the others come from


# Rows


def published(root: Path) -> list[str]:
    "The files that are published in the checkout `root`; of sounds, the folder."
    inside = [p for p in (root / "figures").iterdir() if p.name != "judged" and p.name not in OURS]
    judged = (root / "figures" / "judged").glob("*")
    return sorted(p.relative_to(root).as_posix() for p in (*inside, *judged, *root.glob("benchmarks/*.csv")))


def read_rows(root: Path) -> dict[str, dict[str, str]]:
    "The rows by file."
    path = root / "figures" / "origins.csv"
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def write_rows(root: Path, rows: dict[str, dict[str, str]]):
    "Write the rows of files that are still there, and the page."
    kept = [rows[name] for name in sorted(rows) if (root / name).exists()]
    with written_beside(root / "figures" / "origins.csv") as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    with written_beside(root / "figures" / "ORIGINS.md") as part:
        part.write_text(page(root, kept))


def column(root: Path, name: str, *titles: str) -> str:
    "What the table `name` says in the first of its columns `titles` that it has; empty if in none."
    if not name.endswith(".csv"):
        return ""
    with open(root / name, newline="") as file:
        rows = list(csv.DictReader(file))
    for title in titles:
        if rows and title in rows[0]:
            return "; ".join(dict.fromkeys(row[title] for row in rows))
    return ""


def row_of(root: Path, name: str, command: str, seconds: str, **known: str) -> dict[str, str]:
    "The row of the file `name`; a table's own columns say machine and seed, if it has them."
    return {
        "file": name,
        "command": command,
        "seconds": seconds,
        "machine": column(root, name, "machine", "cpu") or known.get("machine", UNKNOWN),
        "seed": column(root, name, "seed") or known.get("seed", UNKNOWN),
        "commit": known.get("commit", UNKNOWN),
        "rests on": known.get("rests_on", ""),
        "sha256": fingerprint(root / name),
    }


# Commands


def record(root: Path, words: list[str]):
    "Run a command; each published file that is another afterwards gets its row."
    before = {name: fingerprint(root / name) for name in published(root)}
    at, began = commit(), perf_counter()
    code = subprocess.run(words, cwd=root).returncode
    if code:
        raise InputError(f"{' '.join(words)}: ended with exit code {code}; no origin is noted")
    took, rows = perf_counter() - began, read_rows(root)
    changed = [name for name in published(root) if fingerprint(root / name) != before.get(name)]
    for name in changed:
        rows[name] = row_of(root, name, " ".join(words), f"{took:.0f}", machine=machine()["cpu"], commit=at)
    write_rows(root, rows)
    print(f"noted: {', '.join(changed) or 'nothing changed'}")


def worked(record_: Record) -> tuple[str, str]:
    "On what a step was computed, and at which commits; of an interrupted one, all."
    places = dict.fromkeys(f"{one.machine.get('cpu', UNKNOWN)}, {one.device}" for one in record_.tries)
    return "; ".join(places), "; ".join(dict.fromkeys(one.commit for one in record_.tries))


def seconds_of(record_: Record) -> str:
    "The seconds of a step; a lower bound if a try was killed."
    return f"{'' if record_.all_known else AT_LEAST}{record_.seconds:.0f}"


def publish(root: Path, run: Path):
    "Copy the figures of a run, and note for each the step that made it, and the training that it rests on."
    steps, _ = read_manifest(run)
    about = read_json(run / "manifest.json", "manifest of a run", "arm", "size", "overrides")
    seed = "not known"
    if (run / "train" / "run.json").is_file():
        seed = str(read_json(run / "train" / "run.json", "record of a run", "training")["training"]["seed"])
    words = ["mambamuse reproduce --arm", about["arm"], "--size", about["size"], *about["overrides"]]
    makers = {Path(path).name: name for name, record in steps.items() for path in record.outputs}
    rows = read_rows(root)
    for path in sorted((run / "figures").iterdir()):
        if path.name not in makers:
            raise InputError(f"{path}: no step of {run / 'manifest.json'} made it; reproduce it first")
        step = steps[makers[path.name]]
        name = f"figures/{path.name}"
        shutil.copy(path, root / name)
        places, commits = worked(step)
        rests_on = ""
        if "train" in steps and makers[path.name] != "train":
            where, at = worked(steps["train"])
            rests_on = f"weights: step train, {seconds_of(steps['train'])} s on {where}, at {at}"
        known = dict(machine=places, seed=seed, commit=commits, rests_on=rests_on)
        command = f"{' '.join(words)} (step {makers[path.name]})"
        rows[name] = row_of(root, name, command, seconds_of(step), **known)
    write_rows(root, rows)


def note(root: Path, files: list[str], command: str, seconds: str, known: dict[str, str]):
    "A row for each of `files`, with what is known of it; what is not said is taken from here and now."
    rows = read_rows(root)
    known = {"machine": machine()["cpu"], "commit": commit(), **known}
    for name in files:
        if name not in published(root):
            raise InputError(f"{name}: not published; name a file in figures/ or a table in benchmarks/")
        rows[name] = row_of(root, name, command, seconds, **known)
    write_rows(root, rows)


# The page


@contextmanager
def opened(found: set[str], root: Path):
    "Collect in `found` the published files that are opened meanwhile."
    watching = True

    def watch(event, given):
        if watching and event == "open" and isinstance(given[0], str):
            path = os.path.relpath(given[0], root)
            if path.startswith(("figures/", "benchmarks/")):
                found.add(path)

    sys.addaudithook(watch)  # it cannot be taken away, only told to rest
    try:
        yield
    finally:
        watching = False


def quoted(root: Path) -> tuple[dict[str, set[str]], list[str]]:
    """By section of README.md and of the pages that it leads to: the published files that it shows, or that
    its numbers are read from.

    And a line for each cell that fails, so that not all that it reads is known.
    """
    sections: dict[str, set[str]] = {}
    failed: list[str] = []
    for notebook in (root / "nbs" / "index.ipynb", *sorted((root / "nbs" / "pages").glob("*.ipynb"))):
        quoted_by(notebook, root, sections, failed)
    return {section: found for section, found in sections.items() if found}, failed


def quoted_by(notebook: Path, root: Path, sections: dict[str, set[str]], failed: list[str]) -> None:
    "Add to `sections` and to `failed` what `quoted` says of one notebook."
    cells = json.loads(notebook.read_text())["cells"]
    prefix = "" if notebook.stem == "index" else f"{notebook.stem}: "
    section, names = "mambamuse", {"__name__": "readme"}
    back = os.getcwd()
    os.chdir(notebook.parent)
    try:
        for cell in cells:
            code = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                for line in code.splitlines():
                    if line.startswith("#") and line.lstrip("#").startswith(" "):
                        section = prefix + line.lstrip("# ")
                    found = sections.setdefault(section, set())
                    found |= {name for name in published(root) if f"../{name}" in line}
                continue
            found = sections.setdefault(section, set())
            found |= {name for name in published(root) if f"../{name}" in code}
            if not code.startswith(("# | default_exp", "# | export")):
                try:
                    with opened(found, root), redirect_stdout(io.StringIO()):
                        exec(code, names)
                except Exception as error:  # whatever a cell may raise
                    failed.append(f"cell {cell['id']} of section {section}: {type(error).__name__}")
    finally:
        os.chdir(back)


def minutes(seconds: str) -> str:
    "Seconds as minutes, or what stands for them."
    count = seconds.removeprefix(AT_LEAST)
    if not count.isdecimal():
        return seconds
    return f"{seconds.removesuffix(count)}{int(count) / 60:.1f}"


def table(titles: list[str], lines: list[list[str]]) -> str:
    "A table in Markdown."
    whole = [titles, ["---"] * len(titles), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in whole)


def page(root: Path, rows: list[dict[str, str]]) -> str:
    "The page: section of README or of a page, file, command, minutes, machine, seed, commit."
    numbers = {row["file"]: number for number, row in enumerate(rows, 1)}
    sections, failed = quoted(root)
    shown = {section: sorted(found & set(numbers)) for section, found in sections.items()}

    def link(name):
        return f"[{name}](../{name}) ({numbers[name]})"

    paragraphs = [
        "# Where each number and picture comes from",
        "Written by `python benchmarks/origins.py page` from [origins.csv](origins.csv), which holds each"
        " file's SHA-256, too. Find the section of README.md, or of a page that it leads to"
        " (`page: section`), then the file's row. `not recorded`: it was"
        " made before origins were kept. A + after a commit: the checkout had changes that were not"
        " committed.",
        "## What README.md and its pages quote",
        table(
            ["section", "read from (row)"],
            [[section, ", ".join(map(link, names))] for section, names in shown.items()],
        ),
        *(f"Not followed to its end, since it fails: {line}." for line in failed),
        "## How each was made",
        table(
            ["", "file", "command", "minutes", "machine", "seed", "commit", "rests on"],
            [
                [
                    str(number),
                    f"[{row['file']}](../{row['file']})",
                    f"`{row['command']}`",
                    minutes(row["seconds"]),
                    row["machine"],
                    row["seed"],
                    row["commit"],
                    row["rests on"],
                ]
                for number, row in enumerate(rows, 1)
            ],
        ),
    ]
    return "\n\n".join(paragraphs) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    doors = parser.add_subparsers(dest="door", required=True)
    doors.add_parser("record").add_argument("command", nargs=argparse.REMAINDER)
    doors.add_parser("publish").add_argument("run", type=Path)
    doors.add_parser("page")
    by_hand = doors.add_parser("note")
    by_hand.add_argument("files", nargs="+")
    by_hand.add_argument("--command", required=True)
    by_hand.add_argument("--seconds", default=UNKNOWN)
    for name in ("machine", "seed", "commit", "rests-on"):
        by_hand.add_argument(f"--{name}")
    args = parser.parse_args()
    try:
        if args.door == "record":
            record(ROOT, args.command)
        elif args.door == "publish":
            publish(ROOT, args.run)
        elif args.door == "note":
            words = ("machine", "seed", "commit", "rests_on")
            known = {name: getattr(args, name) for name in words if getattr(args, name)}
            note(ROOT, args.files, args.command, args.seconds, known)
        else:
            write_rows(ROOT, read_rows(ROOT))
    except InputError as error:
        sys.exit(f"origins: {error}")


if __name__ == "__main__":
    main()
