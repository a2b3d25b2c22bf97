"""What stands between quotation marks and names a section is the paper's.

`quotations.csv` holds each quotation of the paper that the notebooks and the claims use, as it was found in
the paper's text, with its section; formulas as a reader sees them ("β1", "≤").
"""

import ast
import csv
import re

import nbformat
import pytest
from conftest import ROOT

with open(ROOT / "tests" / "quotations.csv", newline="") as file:
    KNOWN = {(row["section"], row["words"]) for row in csv.DictReader(file)}
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
QUOTED = re.compile(r'^> "(.*)" \((?:section )?([^)]*)\)')


def pieces(text):
    "A quotation without what it leaves out."
    return [piece.strip() for piece in text.split("[...]") if piece.strip()]


def cells(path, kind):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def claims():
    "The quotations of the claims, each with its section."
    for source in cells(ROOT / "nbs" / "runs" / "claims.ipynb", "code"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "claim":
                quote, section = (ast.literal_eval(argument) for argument in node.args[1:3])
                for text in re.findall('"([^"]+)"', quote):
                    yield from ((section, piece) for piece in pieces(text))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "nbs").as_posix())
def test_quotations_of_a_notebook_are_the_papers(path):
    for source in cells(path, "markdown"):
        for line in source.split("\n"):
            if line.startswith('> "'):
                quoted = QUOTED.match(line)
                assert quoted, f"no section: {line}"
                text, section = quoted.groups()
                unknown = [piece for piece in pieces(text) if (section, piece) not in KNOWN]
                assert not unknown


def test_quotations_of_the_claims_are_the_papers():
    found = set(claims())
    assert len(found) > 40 and found <= KNOWN


def test_no_quotation_is_kept_that_nobody_uses():
    used = set(claims())
    for path in NOTEBOOKS:
        for source in cells(path, "markdown"):
            for text, section in (match.groups() for match in map(QUOTED.match, source.split("\n")) if match):
                used |= {(section, piece) for piece in pieces(text)}
    assert KNOWN == used
