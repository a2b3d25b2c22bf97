"""The project itself: what is committed is small, clean, and says what the result files say."""

import json
import re
import subprocess

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
NOTEBOOKS = [p for p in NOTEBOOKS if ".ipynb_checkpoints" not in p.parts]


def test_readme_is_the_index_and_the_index_is_the_result_file(tmp_path):
    "Renders the index anew from figures/: fails if a number in README.md is not the one in the CSV."
    subprocess.run(
        ["make", "-s", "-C", ROOT, "-o", ".venv/installed", "readme", f"README={tmp_path / 'README.md'}"],
        check=True,
    )
    assert (tmp_path / "README.md").read_text() == (ROOT / "README.md").read_text(), (
        "README.md is not what nbs/index.ipynb and figures/ say: make readme"
    )


def test_readme_shows_the_measured_numbers():
    readme = (ROOT / "README.md").read_text()
    claims = (ROOT / "figures" / "claims-as_run-smoke.csv").read_text()
    for number in ("4,205,186", "15.16 GMAC", "275.25 MB", "283 samples"):
        assert number in readme and number in claims


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"\]\(((?!http)[^)]+)\)", (ROOT / "README.md").read_text())))
)
def test_links_of_the_readme_lead_somewhere(target):
    assert (ROOT / target).is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_small_and_clean(path):
    text = path.read_text()
    cells = json.loads(text)["cells"]
    ids = [c["id"] for c in cells]
    assert len(text) <= 300_000
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z0-9-]{1,64}", i) for i in ids)
    assert not re.search(r"/(home|root|Users|site-packages)/|\"output_type\": \"error\"", text)


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.parent.name == "runs"], ids=lambda p: p.stem)
def test_every_parameter_of_a_run_is_annotated_and_explained(path):
    "So that papermill --help-notebook tells a reader all of them."
    import papermill

    cell = next(
        c for c in json.loads(path.read_text())["cells"] if "parameters" in c["metadata"].get("tags", [])
    )
    lines = [
        line for line in "".join(cell["source"]).splitlines() if line.strip() and not line.startswith("#")
    ]
    known = papermill.inspect_notebook(str(path))
    assert len(known) == len(lines)
    assert all(p["inferred_type_name"] != "None" and len(p["help"]) > 5 for p in known.values())
