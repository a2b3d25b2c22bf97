"""Records that earlier commands wrote and something has damaged since: one line, which names the file."""

import json

import pytest

from mambamuse.errors import InputError
from mambamuse.learn.recipes import recipe
from mambamuse.learn.runs import read_lines, run_settings
from mambamuse.reproduce.steps import checkpoint_size, run_steps

DAMAGED = ["[]", "null", "{}", "3", '{"model": {', ""]
RUN = dict(model=dict(widths=[4]), loss={}, training=dict(seed=1), data={}, device="cpu", processes=1)


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
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    assert run_settings(tmp_path) == {
        "model.widths": "[4]",
        "training.seed": "1",
        "device": "cpu",
        "processes": 1,
    }


@pytest.mark.parametrize("key", RUN)
@pytest.mark.parametrize("value", [None, [1], 0.5])
def test_a_record_of_a_run_has_values_of_their_types(tmp_path, key, value):
    (tmp_path / "run.json").write_text(json.dumps(RUN | {key: value}))
    with pytest.raises(InputError, match=f"run.json: not a record of a run, {key} in it is not "):
        run_settings(tmp_path)


@pytest.mark.parametrize("value", [None, 3, [], "text"])
@pytest.mark.parametrize("key", ["config", "files"])
def test_a_report_has_values_of_their_types(tmp_path, key, value):
    (tmp_path / "report.json").write_text(json.dumps(dict(config={}, files={}) | {key: value}))
    with pytest.raises(InputError, match=f"report.json: not a report .*, {key} in it is not an object"):
        recipe(data=tmp_path)
    (tmp_path / "report.json").write_text(json.dumps(dict(config={}, files={"a.arrow": value})))
    with pytest.raises(InputError, match="of a.arrow it does not say rows, bytes and sha256"):
        recipe(data=tmp_path)


ONE = '{"step": 1, "epoch": 1, "mel": null}'


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "3",
        '{"epoch": ',
        "null",
        '{"step": 1}',
        '{"step": null, "epoch": 1}',
        '{"step": 2, "epoch": 1, "mel": "low"}',
    ],
)
def test_a_damaged_line_is_named_and_one_that_is_half_written_left_out(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{ONE}\n{ONE}\n{{"st')
    assert read_lines(tmp_path, "metrics").step.tolist() == [1, 1]
    (tmp_path / "metrics.jsonl").write_text(f"{ONE}\n{line}\n{ONE}\n")
    with pytest.raises(InputError, match="metrics.jsonl: line 2 is damaged"):
        read_lines(tmp_path, "metrics")
