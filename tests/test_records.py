"""Records that earlier commands wrote and something has damaged since: one line, which names the file."""

import json

import pytest

from mambamuse.errors import InputError
from mambamuse.learn.runs import read_lines, run_settings
from mambamuse.reproduce.steps import checkpoint_size, run_steps

DAMAGED = ["[]", "null", "{}", "3", '{"model": {', ""]


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize(
    "name, read",
    [
        ("run.json", run_settings),
        ("manifest.json", lambda folder: run_steps([], folder, {})),
        ("config.json", checkpoint_size),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, name, read, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as said:
        read(tmp_path)
    assert str(said.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(said.value)
    assert (tmp_path / name).read_text() == text


def test_a_record_that_is_whole_is_read(tmp_path):
    about = dict(model=dict(widths=[4]), loss={}, training=dict(seed=1), data={}, device="cpu", processes=1)
    (tmp_path / "run.json").write_text(json.dumps(about))
    assert run_settings(tmp_path) == {
        "model.widths": "[4]",
        "training.seed": "1",
        "device": "cpu",
        "processes": 1,
    }


@pytest.mark.parametrize("line", ["[]", "3", '{"epoch": ', "null"])
def test_a_damaged_line_is_named_and_one_that_is_half_written_left_out(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_lines(tmp_path, "metrics").step.tolist() == [1, 2]
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(InputError, match="metrics.jsonl: line 2 is damaged"):
        read_lines(tmp_path, "metrics")
