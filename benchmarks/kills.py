"""Kill a reproduction at random moments, go on, and compare every file with those of an undisturbed one; then
inject one fault after the other.

    python benchmarks/kills.py [--only kills] [--kills 10] [--seed 0]

Writes figures/kills.csv, a line for each kill, figures/reproduction-faults.csv, a line for each fault,
and figures/FAULTS.md, both as a page. What runs is `mambamuse reproduce` with few notes, a narrow model and
two pairs of each test set. One step is left out, the one that only measures this machine's speed: it runs
once, and its result is given to the others. Linux; the full disk is a small tmpfs, for which it must be root.
"""

import argparse
import csv
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep

import nbformat
import psutil
import torch

from mambamuse.cli import main as main_of_command
from mambamuse.judge.profiling import machine
from mambamuse.reproduce import steps
from mambamuse.reproduce.manifest import read_manifest
from mambamuse.reproduce.steps import NOTEBOOKS, Step, reproduction, run_steps
from mambamuse.sound.paths import written_beside

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "figures"
SMALL = [
    "data.train=8",
    "data.valid=2",
    "data.test=6",
    "data.clip=4112",
    "model.widths=[2,2,2,2]",
    "training.batch=2",
    "training.epochs=4",
    "training.critic_width=0.125",
    "training.save_every=2",
]
RUN = "run"  # the last part of each folder's path: names of files have it
TIMES = ("timings.jsonl", "manifest.json", "ro-crate-metadata.json", ".lock")  # they say when, and how long
WAYS = ("kill -9 of the program", "kill -9 of the kernel", "kill -9 of all", "Ctrl-C")


# A reproduction, in a process of its own


ALL = ["prepare", "train", "transfer", "evaluate", "figures", "claims"]
SHORT = ["prepare", "train"]


def work(folder: str, names: str, largest_file: str):
    "What the process does: the command, with some of its steps."
    if int(largest_file):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest_file), resource.RLIM_INFINITY))
    kept = names.split(",")

    def some(*given):
        return [step for step in reproduction(*given) if step.name in kept]

    steps.reproduction = some
    sys.argv = ["mambamuse", "reproduce", "--out", folder, "--pairs", "2", *SMALL]
    main_of_command()


def start(folder: Path, names: list[str], largest_file: int = 0) -> subprocess.Popen:
    "Begin or go on with a reproduction in `folder`; what it says goes to `folder`.said."
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.said", "a") as said:
        return subprocess.Popen(
            [sys.executable, __file__, "--work", str(folder), ",".join(names), str(largest_file)],
            cwd=ROOT,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env=dict(os.environ, OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1"),
        )


def finish(folder: Path, names: list[str]) -> bool:
    "Go on with the reproduction in `folder` to its end; whether it got there."
    return start(folder, names).wait() == 0


def said(folder: Path, words: str = "mambamuse: ") -> str:
    "The last line with `words` that the reproduction in `folder` said."
    lines = Path(f"{folder}.said").read_text(errors="replace").replace("\r", "\n").splitlines()
    return next((line for line in reversed(lines) if words in line), "nothing")


def kernels(process: subprocess.Popen) -> list[psutil.Process]:
    "The processes below `process`."
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(process: subprocess.Popen, way: str) -> bool:
    "Kill `process` in the given way; false if that did not stop it: it had ended, or has no kernel yet."
    below = kernels(process)
    if process.poll() is not None or (way == "kill -9 of the kernel" and not below):
        return False
    if way == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    elif way == "kill -9 of the kernel":
        below[0].kill()
    else:
        process.kill()
        for one in below if way == "kill -9 of all" else ():
            one.kill()
    return process.wait() != 0


# What it left


def comparable(name: str, content: bytes, folder: Path) -> bytes:
    "The content of the file `name` in `folder` without what says when, how long, or where it was made."
    content = content.replace(str(folder).encode(), RUN.encode())
    if name == "train/run.json":  # on what each piece of it was computed
        return json.dumps({k: v for k, v in json.loads(content).items() if k != "pieces"}).encode()
    lines = content.splitlines(keepends=True)
    if name.endswith("results.jsonl"):  # a pair's line is written when it is judged: two processes, any order
        return b"".join(sorted(lines))
    if name.startswith("figures/claims-"):  # one claim is on seconds
        return b"".join(line for line in lines if not line.startswith(b"training time,"))
    return content


def everything(folder: Path) -> dict[str, str]:
    "A digest of each file in `folder`, by name, but for those that say when and how long."
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.name not in TIMES and not name.startswith("notebooks/"):
            found[name] = sha256(comparable(name, path.read_bytes(), folder)).hexdigest()
    return found


def differing(folder: Path, whole: dict[str, str]) -> list[str]:
    "Files of `folder` that are missing, new, or other than in `whole`."
    mine = everything(folder)
    return sorted(name for name in {*mine, *whole} if mine.get(name) != whole.get(name))


def at_work(folder: Path) -> str:
    "The step that has begun and is not finished."
    records, _ = read_manifest(folder)
    return next((name for name, record in records.items() if not record.finished), "between steps")


def logged(folder: Path) -> int:
    "How many training steps are in the log."
    log = folder / "train" / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def saved(folder: Path) -> int:
    "The training step of the newest checkpoint."
    return max((int(p.name[5:]) for p in folder.glob("train/checkpoints/step-*")), default=0)


# Ten kills


def new_folder(top: Path, name: str, profile: Path) -> Path:
    "A folder for a reproduction, with the speed of this machine in it."
    folder = top / name / RUN
    folder.mkdir(parents=True)
    shutil.copy(profile, folder / "profile.json")
    return folder


def kills(top: Path, profile: Path, whole: dict, takes: float, wanted: int, seed: int) -> list[dict]:
    "A line for each of `wanted` kills of reproductions that go on until they are through."
    draw, rows, run = random.Random(seed), [], 0
    while len(rows) < wanted:
        run += 1
        folder, mine = new_folder(top, f"killed-{run}", profile), []
        while True:
            process, began = start(folder, ALL), monotonic()
            way = draw.choice(WAYS)
            moment = draw.uniform(0, 0.3 * takes)
            if len(rows) + len(mine) >= wanted:
                moment = None
            try:
                process.wait(moment)
                break
            except subprocess.TimeoutExpired:
                step = at_work(folder)
                if kill(process, way):
                    repeated = logged(folder) - saved(folder) if step == "train" else 0
                    mine.append(
                        {
                            "run": run,
                            "kill": len(rows) + len(mine) + 1,
                            "way": way,
                            "after_s": round(monotonic() - began, 1),
                            "at step": step,
                            "training steps repeated": repeated,
                        }
                    )
                    print(mine[-1], flush=True)
                else:
                    process.wait()
        other = differing(folder, whole)
        for row in mine:
            row["files compared"] = len(whole)
            row["files that differ"] = len(other) if process.returncode == 0 else "it failed"
        print(f"run {run}: exit {process.returncode}, {len(mine)} kills, other files: {other}", flush=True)
        rows += mine
    return rows


def all_kills(top: Path, wanted: int, seed: int) -> list[dict]:
    "An undisturbed reproduction, then `kills` of others."
    speed = top / "profile.json"
    few = dict(out=str(speed), lengths=[0.5], batches=[1], backends=[""], repeats=1)
    run_steps([Step("profile", few, outputs=(str(speed),))], top / "profile", {}, NOTEBOOKS)
    began = monotonic()
    place = new_folder(top, "whole", speed)
    assert finish(place, ALL), said(place)
    takes, whole = monotonic() - began, everything(place)
    print(f"undisturbed: {takes:.0f} s, {len(whole)} files", flush=True)
    return kills(top, speed, whole, takes, wanted, seed)


# Faults


def wait_for_steps(process: subprocess.Popen, folder: Path, count: int):
    "Wait until `count` training steps are in the log."
    while process.poll() is None and logged(folder) < count:
        sleep(0.05)


def killed(way):
    "The reproduction is killed in its training, and goes on."

    def fault(folder):
        process = start(folder, SHORT)
        wait_for_steps(process, folder, 5)
        began = monotonic()
        assert kill(process, way), "it ended before it was killed"
        took = monotonic() - began
        repeated = logged(folder) - saved(folder)
        tells = f"exit {process.returncode} after {took:.1f} s"
        if way in ("kill -9 of the kernel", "Ctrl-C"):
            tells += f": {said(folder)}"
        return tells, f"{repeated} training steps, computed again"

    return fault


def disk_full(folder):
    "The disk has room for the data and a part of the training; then there is more."
    if os.geteuid():
        return "not measured: needs root", ""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        code = start(folder, SHORT).wait()
        what = f"exit {code}: {said(folder)}"
        subprocess.run(["mount", "-o", "remount,size=500m", folder], check=True)
        assert code and finish(folder, SHORT)
        shutil.copytree(folder, folder.with_name("rescued"))
    finally:
        subprocess.run(["umount", folder], check=True)
    shutil.rmtree(folder)
    shutil.move(folder.with_name("rescued"), folder)
    return what, "nothing that was finished"


def file_limit(folder):
    "No file may be larger than 100 kB, as with a quota; then it may."
    code = start(folder, SHORT, 100_000).wait()
    return f"exit {code}: {said(folder)}", "nothing that was finished"


def flood(folder):
    "A notebook of 100,000 lines of output, as a library that warns in a loop."
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}},
        cells=[
            nbformat.v4.new_code_cell('out: str = ""  # file', metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(
                "for i in range(100_000): print('x' * 100)\nopen(out, 'w').write('done')"
            ),
        ],
    )
    place = folder.parent / "notebooks"
    place.mkdir(parents=True)
    nbformat.write(notebook, place / "flood.ipynb")
    out = str(folder / "flood.txt")
    began = monotonic()
    run_steps([Step("flood", dict(out=out), outputs=(out,))], folder, {}, place)
    took, size = monotonic() - began, (folder / "notebooks" / "flood.ipynb").stat().st_size / 1e6
    shutil.rmtree(folder)
    return f"the step ended after {took:.0f} s; its notebook has {size:.0f} MB", "nothing"


def other_manifest(text):
    "The manifest is replaced by `text` after the end."

    def fault(folder):
        assert finish(folder, SHORT)
        whole = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(text)
        code = start(folder, SHORT).wait()
        (folder / "manifest.json").write_text(whole)
        return f"exit {code}: {said(folder)}", "nothing; with the manifest put back all is up to date"

    return fault


def cut_checkpoint(folder):
    "The newest checkpoint lost its end, as after a power cut without fsync."
    process = start(folder, SHORT)
    wait_for_steps(process, folder, 7)
    kill(process, "kill -9 of all")
    newest = max(folder.glob("train/checkpoints/step-*"))
    largest = max(newest.iterdir(), key=lambda p: p.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    at = logged(folder)
    assert finish(folder, SHORT)
    return said(folder, "passed over"), f"training steps after the checkpoint before, of {at}, computed again"


def twice(folder):
    "A second reproduction in the same folder, while the first one works."
    first = start(folder, SHORT)
    wait_for_steps(first, folder, 1)
    second = subprocess.run(
        [sys.executable, __file__, "--work", str(folder), ",".join(SHORT), "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    first.wait()
    last = second.stderr.strip().splitlines()[-1]
    return f"the second: exit {second.returncode}: {last}", "nothing"


FAULTS = {
    **{f"{way}, in the training": killed(way) for way in WAYS},
    "disk full (tmpfs of 1 MB)": disk_full,
    "limit on the size of files (100 kB)": file_limit,
    "output flood (100,000 lines)": flood,
    "manifest cut off": other_manifest('{"steps": {"prep'),
    "manifest whose steps are null": other_manifest('{"steps": null}'),
    "newest checkpoint cut off": cut_checkpoint,
    "two at once in one folder": twice,
}


def faults(top: Path) -> list[dict]:
    "A line for each fault; afterwards the reproduction goes on, and is compared with an undisturbed one."
    short = top / "short" / RUN
    assert finish(short, SHORT), said(short)
    whole, rows = everything(short), []
    for number, (name, fault) in enumerate(FAULTS.items()):
        folder = top / f"fault-{number}" / RUN
        what, lost = fault(folder)
        ended = finish(folder, SHORT)
        other = differing(folder, whole)
        rows.append(
            {
                "fault": name,
                "what happened": what.replace(f"{folder.parent}/", "").replace("mambamuse: ", ""),
                "what was lost": lost,
                "went on to the end": ended,
                "files compared": len(whole),
                "files that differ": len(other),
            }
        )
        print(rows[-1], other, flush=True)
        shutil.rmtree(folder.parent)
    return rows


# The page


def table(rows: list[dict]) -> str:
    "Rows as a table in Markdown."
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def page(killings: list[dict], found: list[dict]) -> str:
    "Both tables, and what they say in a sentence."
    runs = len({row["run"] for row in killings})
    equal = all(row["files that differ"] == "0" for row in killings)
    count = killings[0]["files compared"]
    apart = ", ".join(f"`{name}`" for name in TIMES)

    def where(rows):
        return "; ".join(dict.fromkeys(f"{r['machine']}, torch {r['torch']}, seed {r['seed']}" for r in rows))

    def shown(rows):
        return table([{k: v for k, v in r.items() if k not in ("machine", "torch", "seed")} for r in rows])

    paragraphs = [
        "# A reproduction that is disturbed",
        "Written by `python benchmarks/kills.py`. A small reproduction is killed at random moments and"
        " started again, until it is through: few notes, a narrow model, two pairs of each test set. Then"
        " each file is compared with that of an undisturbed one: data, weights, logs, sounds, scores,"
        " figures, claims. Some files say when something was made, or how long it took. They are"
        f" not compared: {apart}, the executed notebooks, `pieces` in `train/run.json`, the claim on the"
        " training's time. Of `results.jsonl` the lines are compared, not their order, since two"
        " processes write them.",
        f"**{len(killings)} kills in {runs} reproductions of {count} files each:"
        f" {'every file is equal' if equal else 'some files differ'}** ({where(killings)}).",
        shown(killings),
        "Each fault below was injected into the first two steps of a reproduction, data and training. Then"
        f" the same command was given again ({where(found)}).",
        shown(found),
    ]
    return "\n\n".join(paragraphs) + "\n"


def read(path: Path) -> list[dict]:
    "The rows of a table; none if it is not there."
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict]):
    with written_beside(path) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="so many")
    parser.add_argument("--seed", type=int, default=0, help="of moments and ways")
    parser.add_argument("--only", choices=("kills", "faults"), help="one of the two tables")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs would ignore it
    about = dict(machine=machine()["cpu"], torch=torch.__version__, seed=args.seed)
    tables = FIGURES / "kills.csv", FIGURES / "reproduction-faults.csv"
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        if args.only != "faults":
            write(tables[0], [row | about for row in all_kills(top, args.kills, args.seed)])
        if args.only != "kills":
            write(tables[1], [row | about for row in faults(top)])
    killings, found = map(read, tables)
    if killings and found:
        with written_beside(FIGURES / "FAULTS.md") as part:
            part.write_text(page(killings, found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        main()
