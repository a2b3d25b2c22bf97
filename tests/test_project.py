"""The project itself: what is committed is small, clean, and says what the result files say."""

import base64
import io
import json
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from PIL import Image

sys.path.insert(0, str(ROOT / "docs"))
import stored

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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_stores_no_warnings_and_no_progress(path):
    "python docs/stored.py takes them out."
    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", ()):
            text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
            assert output.get("name") != "stderr", cell.id
            assert not re.search(r"\r|\d%\||it/s\]|s/it\]| compiled for ", text), cell.id
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), cell.id


def test_what_a_reader_should_not_see_is_taken_out(tmp_path):
    "All kinds of it at once; the rest is as it was, and a second time changes nothing."
    colours = 85 * np.random.default_rng(0).integers(0, 4, (60, 80, 3)).astype(np.uint8)  # 64 of them
    file = io.BytesIO()
    Image.fromarray(colours).convert("RGBA").save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    output = nbformat.v4.new_output
    outputs = [
        output("stream", name="stderr", text="a warning\n"),
        output(
            "stream",
            name="stdout",
            text="before\n\rnotes:  0%|   | 0/5\rnotes: 100%|###| 5/5 [00:02<00:00, 2it/s]\n",
        ),
        output("stream", name="stdout", text="scan compiled for this processor in 2 s\n50 % of 5\n"),
        output("stream", name="stdout", text="\r 3/5 [00:02<00:03,  1.50s/it]"),
        output("display_data", data={stored.WIDGET: {}, "text/plain": "HBox()"}),
        output("display_data", data={"image/png": picture, "text/plain": "<Figure>"}),
    ]
    cell = nbformat.v4.new_code_cell("1", id="one", outputs=outputs)
    path = tmp_path / "mine.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    subprocess.run([sys.executable, ROOT / "docs" / "stored.py", tmp_path], check=True)
    once = path.read_bytes()
    kept = nbformat.read(path, 4).cells[0].outputs
    assert [one.get("text") for one in kept] == ["before\n", "50 % of 5\n", None]
    made = kept[2].data["image/png"]
    after = np.asarray(Image.open(io.BytesIO(base64.b64decode(made))).convert("RGB")).astype(int)
    assert len(made) < 0.8 * len(picture) and after.shape == colours.shape
    assert abs(after - colours).max() <= 2
    subprocess.run([sys.executable, ROOT / "docs" / "stored.py", tmp_path], check=True)
    assert path.read_bytes() == once


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
