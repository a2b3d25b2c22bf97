"""The page of results: every result file of the repository, with what makes it."""

import ast
from itertools import chain
from pathlib import Path

import pandas as pd
from pages import ROOT, relinked

from mambamuse.judge.tables import MAIN

MADE = (  # heading, what makes it (a notebook for papermill, a program, a target of make), its files
    ("The shipped weights", "nbs/runs/shipped.ipynb", ("shipped-*.csv",)),
    ("The shipped weights, drawn", "nbs/runs/pictures.ipynb", ("shipped-*.png",)),
    ("Other trainings, judged", "nbs/runs/judge.ipynb", ("judged/*.csv",)),
    ("The AdaIN study", "nbs/runs/adain_page.ipynb", ("adain-study*",)),
    ("The ablation", "nbs/runs/ablation.ipynb", ("ablation*",)),
    ("The search", "nbs/runs/search.ipynb", ("search*",)),
    ("The smoke run, judged", "make publish", ("evaluation-*", "claims-*")),
    ("The paper's figures", "make publish", ("fig*",)),
    ("The house", "make house", ("house*",)),
    ("The playground", "tests/test_playground.py", ("playground*",)),
    ("The page, as pictures", "tests/pictured.py", ("try-*.png",)),
    ("Kills and faults of a reproduction", "benchmarks/kills.py", ("kills*", "reproduction-faults*")),
    ("Origins", "benchmarks/origins.py", ("origins*",)),
    ("Memory and length", "benchmarks/memory_length.py", ("memory*length*",)),
)
LONG = 60  # rows: a longer table is only linked
CONSTANT = ("seed", "machine", "torch", "cpu", "threads", "n", "set", "size", "device", "steps")


def result_files() -> list[Path]:
    "Tables and pictures, as `figures/search.csv`."
    figures, benchmarks = ROOT / "figures", ROOT / "benchmarks"
    found = chain(figures.rglob("*.png"), figures.rglob("*.csv"), benchmarks.glob("*.csv"))
    return sorted(path.relative_to(ROOT) for path in found)


def measured_by(program: Path) -> tuple[str, str, tuple[str, ...]]:
    "Of a benchmark what `MADE` says of the others: its heading is what it says of itself."
    text = program.read_text(encoding="utf-8")
    heading = ast.get_docstring(ast.parse(text)).partition("\n\n")[0].replace("\n", " ")
    tables = [path.name for path in program.parent.glob("*.csv")]
    own = tuple(name for name in tables if name in text or name == f"{program.stem}.csv")
    return heading.rstrip("."), f"benchmarks/{program.name}", own


def sections() -> list[tuple[str, str, list[Path]]]:
    "Heading, maker and files of each section. Raises `ValueError` if no section has a result file."
    left, found = result_files(), []
    for heading, maker, patterns in (*MADE, *map(measured_by, sorted((ROOT / "benchmarks").glob("*.py")))):
        files = [file for file in left if any(file.match(pattern) for pattern in patterns)]
        left = [file for file in left if file not in files]
        found += [(heading, maker, files)] if files else []
    if left:
        raise ValueError(f"docs/results.py does not say what makes {left[0]}")
    return found


def command(maker: str) -> str:
    "What to type, and a link to where it is written."
    path = Path(maker)
    if path.suffix == ".ipynb":
        return f"`papermill {maker} runs/{path.name}`, [the notebook]({maker})"
    if path.suffix == ".py":
        program = "python -m pytest" if path.name.startswith("test_") else "python"
        return f"`{program} {maker}`, [the program]({maker})"
    return f"`{maker}`"


def shown(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    "A result table as a reader wants it, and what all of its rows have in common."
    same = {name: table[name].iloc[0] for name in CONSTANT if name in table and table[name].nunique() == 1}
    about = ", ".join(f"{name} {value}" for name, value in same.items())
    if {"system", "metric", "value"} <= set(table):
        metrics = [name for name in MAIN if name in set(table.metric)]
        wide = table.pivot_table(index="system", columns="metric", values="value", sort=False)[metrics]
        return wide.reset_index().rename_axis(columns=None), about
    return table.drop(columns=list(same)), about


def table_of(file: Path) -> str:
    "A link to the file, and its table, folded."
    table, about = shown(pd.read_csv(ROOT / file))
    line = f"[{file}]({file})" + (f": {about}" if about else "")
    if len(table) > LONG:
        return f"{line}. {len(table):,} rows.\n"
    html = table.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format, classes="result")
    opened = "<details open>" if len(table) <= 12 else "<details>"
    folded = f'{opened}<summary>{len(table)} rows</summary><div class="wide">\n{html}\n</div></details>'
    return f"{line}.\n\n{folded}\n"


def results() -> str:
    "The page, in Markdown."
    lines = ["# Results\n", "Every table and picture of the repository, with the command that makes it.\n"]
    for heading, maker, files in sections():
        lines += [f"## {heading}\n", f"{command(maker)}\n"]
        for file in files:
            picture = f"![{heading}: {file.stem.replace('-', ' ')}]({file})\n\n[{file}]({file})\n"
            lines.append(picture if file.suffix == ".png" else table_of(file))
    return relinked("\n".join(lines), "results.md")
