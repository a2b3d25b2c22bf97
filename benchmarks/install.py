"""How much room each door of the package takes: a fresh environment for each, the wheel and the lock's versions in it.

`python benchmarks/install.py` writes benchmarks/install.csv; `all` alone needs 7 GB of disk while it runs.
"""
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
import csv
import os
import platform
import re
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[1]
DOORS = ("core", "torch", "judge", "notebooks", "all")
LARGEST = 3  # packages named for each door


def call(*words):
    subprocess.run([*map(str, words)], check=True, env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def measured(door: str, wheel: Path, versions: Path, folder: Path) -> dict:
    "A row on the environment that holds the wheel with the extra `door`, and Python's pip."
    call(sys.executable, "-m", "venv", folder)
    target = wheel if door == "core" else f"mambamuse[{door}] @ {wheel.as_uri()}"
    call(folder/"bin"/"python", "-m", "pip", "install", "--quiet", "-c", versions, target)
    site = next(folder.glob("lib/python*/site-packages"))
    sizes = {path.name: bytes_in(path) for path in site.iterdir() if path.is_dir() and not path.name.endswith(".dist-info")}
    largest = sorted(sizes, key=sizes.get, reverse=True)[:LARGEST]
    return dict(
        door=door, megabytes=round(bytes_in(folder)/1e6), packages=len(list(site.glob("*.dist-info"))),
        largest=", ".join(f"{name} {sizes[name]/1e6:.0f}" for name in largest),
        python=platform.python_version(), system=f"{platform.system()} {platform.machine()}",
    )


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT/"benchmarks"/"install.csv")
    parser.add_argument("--doors", nargs="+", default=DOORS, choices=DOORS)
    given = parser.parse_args()
    rows = []
    with TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        call(sys.executable, "-m", "build", "--no-isolation", "--outdir", scratch, ROOT)
        versions = scratch/"versions.txt"
        lines = (ROOT/"constraints.txt").read_text().splitlines()
        versions.write_text("\n".join(line.rstrip(" \\") for line in lines if re.match(r"[\w.-]+==", line)))
        for door in given.doors:
            with TemporaryDirectory(dir=scratch) as folder:
                rows.append(measured(door, next(scratch.glob("*.whl")), versions, Path(folder)/"env"))
            print(rows[-1])
    with open(given.out, "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
