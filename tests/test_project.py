"""The project itself: what is committed is small, clean, and says what the result files say."""

import json
import re
import subprocess

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

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


def shown(book):
    "What a reader of a stored notebook sees of its cells."
    kinds = ("text/markdown", "text/plain")
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text")})
            yield cell.id, next((data[kind] for kind in kinds if kind in data), None)


@pytest.mark.parametrize("path", sorted((ROOT / "nbs" / "pages").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_page_says_what_the_result_files_say(path):
    book = nbformat.read(path, 4)
    stored = list(shown(book))
    NotebookClient(book, timeout=120, resources=dict(metadata=dict(path=path.parent))).execute()
    assert list(shown(book)) == stored, "make readme"


def test_readme_is_one_page():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.encode()) <= 8_000 and "make reproduce" in readme and "make test" in readme


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
