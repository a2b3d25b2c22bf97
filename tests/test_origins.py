"""Each published number and picture has its way back: to a command, a machine, a commit."""

import csv
import json
import sys

import pytest
from conftest import ROOT

from mambamuse.errors import InputError
from mambamuse.reproduce.manifest import Record, Try, write_manifest
from mambamuse.reproduce.origins import fingerprint

sys.path.insert(0, str(ROOT / "benchmarks"))
import origins


@pytest.fixture
def checkout(tmp_path):
    "A checkout with a README that reads one table and shows another's name, and both tables."
    for folder in ("figures/judged", "benchmarks", "nbs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "figures" / "scores.csv").write_text("score,seed,machine\n1,42,a server\n")
    (tmp_path / "benchmarks" / "speed.csv").write_text("seconds\n3\n")
    cells = [
        dict(cell_type="markdown", id="a", source="# Title\n\n## Speed\n\n[speed](../benchmarks/speed.csv)"),
        dict(cell_type="markdown", id="b", source="## Scores"),
        dict(cell_type="code", id="c", source="name = 'scores'\nopen(f'../figures/{name}.csv').read()"),
        dict(cell_type="code", id="d", source="1 / 0"),
    ]
    (tmp_path / "nbs" / "index.ipynb").write_text(json.dumps(dict(cells=cells)))
    return tmp_path


def test_each_published_file_has_its_row_and_is_still_the_same():
    rows = origins.read_rows(ROOT)
    assert sorted(rows) == origins.published(ROOT)
    changed = [name for name, row in rows.items() if row["sha256"] != fingerprint(ROOT / name)]
    assert not changed, "made anew without its origin: python benchmarks/origins.py record COMMAND, or note"


def test_each_row_says_all_that_is_known():
    for name, row in origins.read_rows(ROOT).items():
        assert tuple(row) == origins.COLUMNS and all(row[c] for c in origins.COLUMNS if c != "rests on"), name
        scripts = [w for w in row["command"].split() if w.endswith((".py", ".ipynb")) and "runs/" != w[:5]]
        assert all((ROOT / script).is_file() for script in scripts), name
        assert scripts or row["command"].startswith("mambamuse "), name


def test_the_page_is_the_one_that_the_rows_give():
    rows = list(origins.read_rows(ROOT).values())
    assert (ROOT / "figures" / "ORIGINS.md").read_text() == origins.page(ROOT, rows)
    assert "../figures/ORIGINS.md" in (ROOT / "nbs" / "index.ipynb").read_text(), "README leads to it"


def test_what_readme_reads_is_found_by_section_also_through_names_that_are_put_together(checkout):
    found, failed = origins.quoted(checkout)
    assert found == {"Speed": {"benchmarks/speed.csv"}, "Scores": {"figures/scores.csv"}}
    assert failed == ["cell d of section Scores: ZeroDivisionError"]


def test_a_recorded_command_notes_what_it_changed_and_nothing_else(checkout):
    code = "open('benchmarks/speed.csv', 'w').write('seconds\\\n2\\\n')"
    origins.record(checkout, [sys.executable, "-c", code])
    (row,) = origins.read_rows(checkout).values()
    assert row["file"] == "benchmarks/speed.csv" and row["sha256"] == fingerprint(checkout / row["file"])
    assert row["machine"] == origins.machine()["cpu"] and float(row["seconds"]) >= 0
    assert row["commit"] == origins.commit()


def test_a_command_that_fails_notes_nothing(checkout):
    code = "open('benchmarks/speed.csv', 'w').write('x'); 1 / 0"
    with pytest.raises(InputError, match="ended with exit code 1"):
        origins.record(checkout, [sys.executable, "-c", code])
    assert origins.read_rows(checkout) == {}


def test_a_table_says_itself_on_which_machine_it_was_made(checkout):
    origins.note(checkout, ["figures/scores.csv"], "by hand", "60", dict(machine="another"))
    (row,) = origins.read_rows(checkout).values()
    assert (row["machine"], row["seed"], row["commit"]) == ("a server", "42", origins.commit())
    assert "| 1.0 | a server | 42 |" in (checkout / "figures" / "ORIGINS.md").read_text()
    with pytest.raises(InputError, match="nothing.csv: not published"):
        origins.note(checkout, ["figures/nothing.csv"], "by hand", "1", {})


def test_a_picture_drawn_on_a_laptop_does_not_relabel_the_training(checkout):
    "Data and training come from a server, in two tries; the picture is drawn on a laptop and published."
    run = checkout / "runs" / "mine"
    (run / "figures").mkdir(parents=True)
    (run / "train").mkdir()
    (run / "figures" / "losses.png").write_text("a picture")
    (run / "train" / "run.json").write_text(json.dumps(dict(training=dict(seed=7))))
    server = dict(machine=dict(cpu="a server"), device="a GPU", commit="aaa")
    tries = [Try(**server, began=0), Try(**server, began=100, seconds=3600)]
    laptop = Try(machine=dict(cpu="a laptop"), device="cpu", commit="bbb+", began=9000, seconds=2)
    records = dict(
        train=Record(depends_on={}, outputs={"runs/mine/train": "00"}, tries=tries, finished=1),
        figures=Record(
            depends_on={}, outputs={"runs/mine/figures/losses.png": "11"}, tries=[laptop], finished=2
        ),
    )
    write_manifest(run, dict(arm="as_run", size="small", overrides=["training.seed=7"]), records)
    origins.publish(checkout, run)
    assert (checkout / "figures" / "losses.png").read_text() == "a picture"
    row = origins.read_rows(checkout)["figures/losses.png"]
    assert row["command"] == "mambamuse reproduce --arm as_run --size small training.seed=7 (step figures)"
    assert (row["machine"], row["commit"], row["seconds"], row["seed"]) == ("a laptop, cpu", "bbb+", "2", "7")
    assert row["rests on"] == "weights: step train, at least 3600 s on a server, a GPU, at aaa"
    (run / "figures" / "mine.png").write_text("not a step's")
    with pytest.raises(InputError, match="mine.png: no step of .* made it"):
        origins.publish(checkout, run)


def test_seconds_become_minutes_and_words_stay_words():
    assert [origins.minutes(s) for s in ("90", "at least 30", "not recorded")] == [
        "1.5",
        "at least 0.5",
        "not recorded",
    ]


def test_tables_with_times_say_on_which_machine():
    "Each row of a table that has seconds, or what is made in a second, has its machine."
    words = ("seconds", "minutes", "ms", "takes", "after_s")
    units = ("s", "ms", "triplets/s", "notes/s")
    for path in sorted([*ROOT.glob("figures/**/*.csv"), *ROOT.glob("benchmarks/*.csv")]):
        if path.name == "origins.csv":
            continue
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        timed = set(words) & set(rows[0]) or any(row.get("unit") in units for row in rows)
        assert not timed or all(row.get("machine") or row.get("cpu") for row in rows), path.name
