"""Steps of a reproduction: what runs again, what does not, and what an interruption costs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import ROOT
from rocrate.rocrate import ROCrate

from mambamuse.errors import InputError
from mambamuse.judge.profiling import machine
from mambamuse.reproduce.figures import PAPER_CURVES  # noqa: F401 (the room that must not retrain)
from mambamuse.reproduce.manifest import read_manifest
from mambamuse.reproduce.origins import depends_on, followed, look, reasons
from mambamuse.reproduce.steps import Step, explain_steps, reproduction, run_steps

TRAIN = Path(ROOT / "nbs" / "runs" / "train.ipynb")
TINY = [
    "data.train=8",
    "data.valid=2",
    "data.test=6",
    "data.clip=4112",
    "model.widths=[2,2,2,2]",
    "training.batch=2",
    "training.epochs=6",
    "training.save_every=2",
]


def write(path, code, parameters='out: str = ""  # file'):
    "A notebook with one cell of parameters and one of code."
    cells = [
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture
def package(tmp_path):
    "A copy of the package, and a Python whose imports come from it."
    shutil.copytree(ROOT / "mambamuse", tmp_path / "copy" / "mambamuse")

    def why(before=None):
        code = (
            "import json, sys; from mambamuse.reproduce.origins import *;"
            f"now = {{n: depends_on(f'{ROOT}/nbs/runs/{{n}}.ipynb', {{}}) for n in"
            " ('prepare', 'train', 'evaluate', 'figures')};"
            "before = json.loads(sys.argv[1]);"
            "print(json.dumps([now, {n: reasons(before.get(n), now[n]) for n in now}]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(before or {})],
            capture_output=True,
            text=True,
            env=dict(os.environ, PYTHONPATH=str(tmp_path / "copy")),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return tmp_path / "copy" / "mambamuse", why


@pytest.mark.parametrize(
    "file, old, new, again",
    [
        ("reproduce/figures.py", '"content", "style"', '"Content", "style"', {"figures"}),
        ("judge/metrics.py", "0.", "1.", {"evaluate"}),
        ("learn/trainer.py", "0.0", "0.5", {"train"}),
        ("sound/audio.py", "PEAK = 0.9", "PEAK = 0.8", {"prepare", "train", "evaluate", "figures"}),
        ("learn/trainer.py", '    """The networks', '    """All networks', set()),
        ("learn/trainer.py", "# what is validated", "# that is validated", set()),
        ("use/playground.py", "0", "1", set()),
        ("sizes/smoke.toml", "epochs = 20", "epochs = 21", {"prepare", "train"}),
        ("timbre_net/results.json", "0", "1", {"evaluate"}),
    ],
)
def test_a_step_runs_again_exactly_when_its_code_changed(package, file, old, new, again):
    folder, why = package
    before, never = why()
    assert all(lines == ["was never made"] for lines in never.values())
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    _, lines = why(before)
    changed = {name for name, why in lines.items() if why}
    assert again <= changed <= again | ({"figures"} if "judge" in file or "sizes" in file else set()), lines


def test_what_a_training_depends_on():
    modules, folders, others = followed("from mambamuse.learn.train import train_recipe")
    assert "learn.trainer" in modules and not any(m.startswith(("reproduce", "judge")) for m in modules)
    assert {"arms", "sizes"} <= folders and {"torch", "numpy", "accelerate", "datasets"} <= others
    one = depends_on(TRAIN, dict(steps=3))
    assert reasons(one, depends_on(TRAIN, dict(steps=4))) == ["parameters: steps changed from 3 to 4"]
    assert "torch" in one["packages"] and look.cache_info().hits


def test_a_killed_process_is_an_error_and_the_next_call_goes_on(tmp_path):
    "The cell kills its own kernel the first time."
    code = (
        "import os, pathlib, signal\np = pathlib.Path(out)\nseen = p.exists()\n"
        "with open(p, 'a') as f: f.write('x')\n"
        "if not seen: os.kill(os.getpid(), signal.SIGKILL)"
    )
    write(tmp_path / "one.ipynb", code)
    step = Step("one", dict(out=f"{tmp_path}/run/x"), outputs=(f"{tmp_path}/run/x",))
    began = time.monotonic()
    with pytest.raises(InputError, match="its process died"):
        run_steps([step], tmp_path / "run", {}, tmp_path)
    assert time.monotonic() - began < 30
    run_steps([step], tmp_path / "run", {}, tmp_path)
    assert (tmp_path / "run" / "x").read_text() == "xx"  # it found what it had left
    assert not (tmp_path / "run" / "old").exists()


def test_what_was_begun_by_other_means_is_put_aside(tmp_path):
    write(
        tmp_path / "one.ipynb",
        "open(out, 'a').write(x)\n1 / int(x)",
        'out: str = ""  # file\nx: str = ""  # x',
    )

    def run(x):
        step = Step("one", dict(out=f"{tmp_path}/run/x", x=x), outputs=(f"{tmp_path}/run/x",))
        return run_steps([step], tmp_path / "run", {}, tmp_path)

    with pytest.raises(InputError, match="ZeroDivisionError"):
        run("0")
    run("1")
    assert (tmp_path / "run" / "x").read_text() == "1"
    assert [p.read_text() for p in (tmp_path / "run" / "old").iterdir()] == ["0"]


def test_a_flood_of_output_does_not_stop_a_step(tmp_path):
    write(tmp_path / "one.ipynb", "for i in range(20_000): print('x' * 200)\nopen(out, 'w').write('done')")
    step = Step("one", dict(out=f"{tmp_path}/run/x"), outputs=(f"{tmp_path}/run/x",))
    run_steps([step], tmp_path / "run", {}, tmp_path)
    assert (tmp_path / "run" / "x").read_text() == "done"


def test_two_do_not_work_in_one_folder(tmp_path):
    code = f"from mambamuse.reproduce.steps import run_steps\nrun_steps([], '{tmp_path}/run', {{}})"
    write(tmp_path / "one.ipynb", code)
    step = Step("one", dict(out=f"{tmp_path}/run/x"), outputs=(f"{tmp_path}/run/x",))
    with pytest.raises(InputError, match="InputError: .*another process reproduces there"):
        run_steps([step], tmp_path / "run", {}, tmp_path)


# What is written down, and damaged


def one_step(tmp_path, code="open(out, 'w').write('a\\n1\\n')", name="x.csv"):
    "A step of one cell, which writes `run/name`."
    write(tmp_path / "one.ipynb", code)
    return Step("one", dict(out=f"{tmp_path}/run/{name}"), outputs=(f"{tmp_path}/run/{name}",))


@pytest.mark.parametrize("steps", ["null", "[]", "[1]", "3", '"one"', "true"])
def test_a_manifest_whose_steps_are_no_table_is_refused_and_left(tmp_path, steps):
    step = one_step(tmp_path)
    (tmp_path / "run").mkdir()
    text = f'{{"arm": "x", "steps": {steps}}}'
    (tmp_path / "run" / "manifest.json").write_text(text)
    for call in (run_steps, explain_steps):
        with pytest.raises(InputError) as said:
            if call is run_steps:
                run_steps([step], tmp_path / "run", {}, tmp_path)
            else:
                explain_steps([step], tmp_path / "run", tmp_path)
        assert "manifest.json: damaged" in str(said.value) and "\n" not in str(said.value)
    assert (tmp_path / "run" / "manifest.json").read_text() == text
    assert not (tmp_path / "run" / "x.csv").exists()


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        None,
        3,
        "x",
        dict(depends_on=None),
        dict(depends_on={"code": 3}),
        dict(depends_on={}, outputs=[]),
        dict(depends_on={}, finished="yes"),
        dict(depends_on={}, tries=[3]),
    ],
)
def test_a_damaged_record_of_a_step_makes_it_run_again_and_loses_nothing(tmp_path, capsys, record):
    step = one_step(tmp_path)
    run_steps([step], tmp_path / "run", {}, tmp_path)
    file = tmp_path / "run" / "manifest.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(dict(whole, steps=dict(one=record))))
    capsys.readouterr()
    explain_steps([step], tmp_path / "run", tmp_path)
    run_steps([step], tmp_path / "run", {}, tmp_path)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert "one: its record in the manifest is damaged" in first
    assert "one (its record in the manifest is damaged)" in second
    (kept,) = (tmp_path / "run" / "old").iterdir()
    assert kept.read_text() == (tmp_path / "run" / "x.csv").read_text()
    again = json.loads(file.read_text())["steps"]["one"]
    assert again["depends_on"] == whole["steps"]["one"]["depends_on"]


@pytest.mark.parametrize("text", ["", "a,b\\n", "a,b\\n\\n"])
def test_a_step_that_leaves_an_empty_table_has_failed(tmp_path, text):
    step = one_step(tmp_path, f"open(out, 'w').write('{text}')")
    with pytest.raises(InputError, match="step one ended, but .*x.csv is empty or missing"):
        run_steps([step], tmp_path / "run", {}, tmp_path)
    records, _ = read_manifest(tmp_path / "run")
    assert not records["one"].finished and records["one"].all_known


def test_a_step_that_leaves_nothing_has_failed(tmp_path):
    with pytest.raises(InputError, match="x.csv is empty or missing"):
        run_steps([one_step(tmp_path, "pass")], tmp_path / "run", {}, tmp_path)


def test_a_table_that_lost_its_rows_is_made_again(tmp_path, capsys):
    step = one_step(tmp_path)
    run_steps([step], tmp_path / "run", {}, tmp_path)
    (tmp_path / "run" / "x.csv").write_text("a\n")
    run_steps([step], tmp_path / "run", {}, tmp_path)
    assert "x.csv is empty) ..." in capsys.readouterr().out
    assert (tmp_path / "run" / "x.csv").read_text() == "a\n1\n"


def everything(folder):
    "Each file and folder below `folder`, with size and time."
    return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def test_asking_why_writes_nothing(tmp_path, capsys):
    step = one_step(tmp_path)
    before = everything(tmp_path)
    explain_steps([step], tmp_path / "run", tmp_path)
    assert everything(tmp_path) == before and "one: was never made" in capsys.readouterr().out
    run_steps([step], tmp_path / "run", {}, tmp_path)
    before = everything(tmp_path)
    explain_steps([step], tmp_path / "run", tmp_path)
    assert everything(tmp_path) == before and "one: unchanged" in capsys.readouterr().out


def test_asking_why_works_beside_a_reproduction(tmp_path, capfd):
    "The step's own notebook asks, while the step runs and the folder is locked."
    code = (
        "from mambamuse.reproduce.steps import Step, explain_steps\n"
        "step = Step('one', dict(out=out), outputs=(out,))\n"
        f"explain_steps([step], '{tmp_path}/run', '{tmp_path}')\n"
        "open(out, 'w').write('a\\n1\\n')"
    )
    run_steps([one_step(tmp_path, code)], tmp_path / "run", {}, tmp_path)
    said = nbformat.read(tmp_path / "run" / "notebooks" / "one.ipynb", 4).cells[-1].outputs[0].text
    assert said == "[1/1] one: has begun and is not finished: goes on\n"


def test_a_figure_made_here_does_not_relabel_what_another_machine_made(tmp_path):
    """The first step's record names another machine; the second's output is lost and made anew."""
    write(tmp_path / "one.ipynb", "open(out, 'w').write('1')")
    steps = [
        Step(
            name,
            dict(out=f"{tmp_path}/run/{name}.txt"),
            outputs=(f"{tmp_path}/run/{name}.txt",),
            notebook="one",
        )
        for name in ("train", "figure")
    ]
    folder = tmp_path / "run"
    run_steps(steps, folder, {}, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    for record in manifest["steps"].values():
        record["tries"][0]["machine"] = dict(cpu="a server far away")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "figure.txt").unlink()
    run_steps(steps, folder, {}, tmp_path)
    makers = {
        file["@id"]: {
            value["name"]: value["value"]
            for action in crate.get_by_type("CreateAction")
            if file in action["result"]
            for value in action["environment"]
        }
        for crate in [ROCrate(folder)]
        for file in crate.get_by_type("File")
    }
    assert makers["train.txt"]["machine: cpu"] == "a server far away"
    assert makers["figure.txt"]["machine: cpu"] != "a server far away"
    assert makers["figure.txt"]["machine: cpu"] == machine()["cpu"]


def test_the_seconds_of_an_interrupted_step_are_those_of_all_its_tries(tmp_path):
    code = (
        "import os, pathlib, time\np = pathlib.Path(out)\nseen = p.exists()\n"
        "open(out, 'a').write('x')\n1 / seen"
    )
    step = one_step(tmp_path, code, "x")
    with pytest.raises(InputError, match="ZeroDivisionError"):
        run_steps([step], tmp_path / "run", {}, tmp_path)
    done = run_steps([step], tmp_path / "run", {}, tmp_path)["one"]
    assert len(done.tries) == 2 and done.all_known
    assert done.seconds == sum(one.seconds for one in done.tries) > done.tries[-1].seconds > 0
    actions = ROCrate(tmp_path / "run").get_by_type("CreateAction")
    assert [a["name"] for a in actions] == ["step one, interrupted", "step one"]


# The training step of a reproduction, killed


def test_ctrl_c_ends_a_reproduction_with_a_line_that_says_how_to_go_on(tmp_path):
    "As a terminal does it: the whole group of processes gets the signal."
    words = ["reproduce", *TINY, "training.patience=5", "--out", str(tmp_path / "run")]
    with open(tmp_path / "out", "w") as out, open(tmp_path / "err", "w") as err:
        command = [Path(sys.executable).with_name("mambamuse"), *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, start_new_session=True)
        for _ in range(3_000):
            if "prepare" in (tmp_path / "out").read_text():
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(300) == 130
    said = (tmp_path / "err").read_text().splitlines()
    assert said.count("mambamuse: stopped; the same command goes on") == 1  # a kernel may have a last word


def steps_of(folder):
    "Data and training of a tiny reproduction."
    from mambamuse.data.notes import MINI

    return reproduction("as_run", "smoke", TINY, "nsynth", [str(MINI)], folder, 2)[:2]


def program(folder):
    "A process that runs them."
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests'); from test_steps import *;"
        "folder = Path(sys.argv[1]); run_steps(steps_of(folder), folder, {})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(folder):
    "Everything that the training left, but for its seconds."
    files = (p for p in sorted((folder / "train").rglob("*")) if p.is_file() and p.name != "timings.jsonl")
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}
    run = json.loads(found.pop("train/run.json"))
    pieces = run.pop("pieces")  # on what each piece of it was computed
    assert pieces and pieces[0]["after_step"] == 0
    return found | {"run": run}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A tiny reproduction's data and training, finished."
    folder = tmp_path_factory.mktemp("trained") / "run"
    run_steps(steps_of(folder), folder, {})
    return folder


def unfinish(folder, *names):
    "Let the manifest say that these steps had begun, and were not finished."
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in names:
        manifest["steps"][name] |= dict(finished=None, outputs={}, files={})
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("text", ["", "[]", '{"model": {'])
@pytest.mark.parametrize("name, step", [("train/run.json", "train"), ("data/report.json", "prepare")])
def test_a_damaged_record_inside_an_interrupted_step_is_one_line_or_made_anew(trained, name, step, text):
    whole = (trained / name).read_text()
    before = contents(trained)
    unfinish(trained, step)
    (trained / name).write_text(text)
    try:
        run_steps(steps_of(trained), trained, {})
    except InputError as error:
        said = str(error)
        assert f"step {step} failed" in said and Path(name).name in said and "\n" not in said
        (trained / name).write_text(whole)
        run_steps(steps_of(trained), trained, {})
    assert contents(trained) == before


@pytest.mark.parametrize("who", ["the program", "the kernel"])
def test_a_reproduction_that_is_killed_again_and_again_is_the_undisturbed_one(tmp_path, who):
    run_steps(steps_of(tmp_path / "whole"), tmp_path / "whole", {})
    folder = tmp_path / "killed"
    kills = 0
    for steps in (1, 4, 7):  # kill it as soon as so many steps are in the log
        process = program(folder)
        log = folder / "train" / "metrics.jsonl"
        while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= steps):
            time.sleep(0.02)
        if process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            victim = process.pid if who == "the program" else children[0].pid
            os.kill(victim, signal.SIGKILL)
            kills += 1
        out, err = process.communicate(timeout=60)
        if who == "the kernel":
            assert process.returncode and "its process died" in err
        psutil.wait_procs([child for child in children if child.is_running()], timeout=30)
    process = program(folder)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert kills == 3 and contents(folder) == contents(tmp_path / "whole")
    assert not (folder / "old").exists()
