"""How much room each door of the package takes: the plain package, and each extra that builds on it.

    python benchmarks/install.py [--out benchmarks/install.csv]

Counts, in the environment of `make setup`, the files of the package and of everything that the door requires,
as pip
recorded them. What Python and pip take themselves, some 20 MB, is left out.
"""

import argparse
import csv
import importlib.metadata
import platform
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOORS = "core", "fast", "torch", "judge", "notebooks", "all"
LARGEST = 3  # packages named for each door


def required(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    """The names of the distributions that `name` with `extras` requires here, and those that these require;
    without itself.
    """
    found, open_ = set(), [(canonicalize_name(name), frozenset(extras))]
    done = set()
    while open_:
        package, wanted = open_.pop()
        if (package, wanted) in done:
            continue
        done.add((package, wanted))
        found.add(package)
        for line in importlib.metadata.requires(package) or ():
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in wanted | {""}):
                open_.append((canonicalize_name(need.name), frozenset(need.extras)))
    return found - {canonicalize_name(name)}


def bytes_of(distribution: str) -> int:
    "The size of the installed files of `distribution`."
    paths = [path.locate() for path in importlib.metadata.files(distribution) or ()]
    return sum(Path(path).stat().st_size for path in paths if Path(path).is_file())


def bytes_of_the_package() -> int:
    "The size of mambamuse's own files; in an editable installation they are not recorded."
    return sum(path.stat().st_size for path in (ROOT / "mambamuse").rglob("*") if path.is_file())


def measured(door: str) -> dict:
    "A row on `door`."
    sizes = {name: bytes_of(name) for name in required("mambamuse", () if door == "core" else (door,))}
    largest = sorted(sizes, key=sizes.get, reverse=True)[:LARGEST]
    return dict(
        door=door,
        megabytes=round((sum(sizes.values()) + bytes_of_the_package()) / 1e6),
        packages=len(sizes) + 1,
        largest=", ".join(f"{name} {sizes[name] / 1e6:,.0f}" for name in largest),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "install.csv", help="the table to write"
    )
    given = parser.parse_args()
    rows = [measured(door) for door in DOORS]
    with open(given.out, "w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
