"""The device is chosen once, for a process and all that it starts. No card is needed: a process that chose
the processor must not see one, and a card that is not there is refused.
"""

import json
import os
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import soundfile as sf
from conftest import ROOT
from test_steps import TINY, write
from typer.main import get_command

from mambamuse.cli import app
from mambamuse.data.notes import MINI
from mambamuse.errors import InputError
from mambamuse.model.device import use_device
from mambamuse.reproduce.origins import source
from mambamuse.use.style import network_of

ABSENT = {  # command -> words that would need other things to be there
    "train": ["--out", "out", "--data", "absent"],
    "reproduce": ["--out", "out", "--path", "absent"],
    "evaluate": ["--set", "notes", "--out", "out"],
    "study": ["--weights", "a=absent", "--out", "out"],
    "transfer": ["absent.wav", "absent.wav", "-o", "out.wav"],
    "style": ["absent.wav", "-o", "out.style"],
    "profile": [],
}
NETWORKS = "train transfer evaluate adain ablation search judge choose shipped profile".split()


def test_the_commands_with_a_device_are_those_that_run_a_network():
    commands = get_command(app).commands
    having = {name for name, command in commands.items() if any(p.name == "device" for p in command.params)}
    assert having == set(ABSENT)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
@pytest.mark.parametrize("command", ABSENT)
def test_a_device_that_is_not_there_is_one_line_before_all_else(tmp_path, mambamuse, command, device):
    code, out, err = mambamuse(command, *ABSENT[command], "--device", device, cwd=tmp_path)
    assert code == 2 and not out and err.count("\n") == 1 and f"device is {device}" in err, err
    assert "absent" not in err and not list(tmp_path.iterdir())


def test_a_training_on_the_processor_says_so(tmp_path, mambamuse):
    code, _, err = mambamuse(
        "train",
        "--out",
        "run",
        "--device",
        "cpu",
        "--steps",
        "1",
        *TINY[:-2],
        "training.patience=1",
        cwd=tmp_path,
    )
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["device"] == "cpu"


def test_a_transfer_on_the_processor_is_what_it_was(tmp_path, mambamuse):
    sound = np.sin(np.arange(8_000) / 9) / 2
    sf.write(tmp_path / "content.wav", sound, 16_000)
    note = next((MINI / "nsynth-test" / "audio").iterdir())
    for words in (["a.wav"], ["b.wav", "--device", "cpu"]):
        code, _, err = mambamuse("transfer", "content.wav", note, "-o", *words, cwd=tmp_path)
        assert code == 0, err
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_the_choice_reaches_the_kernel_of_a_notebook(tmp_path):
    "What `reproduce` and `study` run is in a process of its own."
    write(tmp_path / "look.ipynb", "import os; open(out, 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])")
    program = (
        "from mambamuse.model.device import use_device\n"
        "from mambamuse.reproduce.steps import Step, run_steps\n"
        "use_device('cpu')\n"
        "run_steps([Step('look', dict(out='seen.txt'), (), ('seen.txt',))], 'run', {}, '.')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen.txt").read_text() == "-1"
    record = json.loads((tmp_path / "run" / "manifest.json").read_text())["steps"]["look"]
    assert record["tries"][-1]["device"] == "cpu"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_notebook_that_runs_a_network_can_be_told_where(name):
    notebook = ROOT / "nbs" / "runs" / f"{name}.ipynb"
    parameters = next(
        cell.source
        for cell in nbformat.read(notebook, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    assert "\ndevice: str = " in parameters
    assert "use_device(device)" in source(notebook) or "device=device" in source(notebook)


def test_several_processes_take_a_card_each(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="each of the 2 processes takes its own"):
        use_device("cuda:1")


def test_a_refused_choice_changes_nothing(monkeypatch):
    for before in (None, "7,8"):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if before:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
        with pytest.raises(InputError, match="device is cuda:5: PyTorch finds no such card here"):
            use_device("cuda:5")
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_an_exported_network_is_not_on_a_card(tmp_path):
    (tmp_path / "about.json").write_text("{}")
    with pytest.raises(InputError, match="computes on the processor, not on cuda"):
        network_of(tmp_path, "cuda")
