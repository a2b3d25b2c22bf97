"""Starting: what is imported, what is declared, what is left behind. By what a process holds, not by how long
it takes.
"""

import configparser
import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import house
import pytest
from conftest import ROOT
from house import imports

import mambamuse
from mambamuse.cli import app  # with the commands
from mambamuse.data.notes import MINI
from mambamuse.errors import EXTRAS, needs
from mambamuse.sound.audio import load
from mambamuse.use.files import transfer_file

HEAVY = ("torch", "numba", "scipy", "pandas", "onnxruntime", "matplotlib")
NOTE = next((MINI / "nsynth-test" / "audio").iterdir())
MODULES = house.modules()


# What a process has imported

FORKS = """
import json, os, sys
import mambamuse.cli

for number, words in enumerate(json.load(open("cases.json"))):
    child = os.fork()
    if not child:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv, code = ["mambamuse", *words], 0
        os.mkdir(f"{number}.work")
        os.chdir(f"{number}.work")
        open("text.wav", "w").write("not audio")
        open("empty.wav", "w").close()
        try:
            mambamuse.cli.main()
        except SystemExit as end:
            code = end.code or 0
        imported = [name for name in HEAVY if name in sys.modules]
        json.dump([code, imported, sorted(os.listdir())], open(f"../{number}.json", "w"))
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """The command with each of `CASES`, in a child of a process that imported `mambamuse.cli` alone, in a
    folder with two
    files that are no sounds: exit code, standard error, which of `HEAVY` it imported, and the files that are
    there then.
    """
    folder = tmp_path_factory.mktemp("answers")
    (folder / "cases.json").write_text(json.dumps([list(map(str, words)) for words in CASES]))
    subprocess.run([sys.executable, "-c", f"HEAVY = {HEAVY!r}\n{FORKS}"], cwd=folder, check=True)

    def of(words):
        number = CASES.index(words)
        code, imported, files = json.loads((folder / f"{number}.json").read_text())
        return code, (folder / f"{number}.err").read_text(), imported, files

    return of


def commands():
    "Each command's words and its typer command, of groups those inside."
    import typer

    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        inside = getattr(command, "commands", None)
        yield from (([name, child], inside[child]) for child in inside) if inside else [([name], command)]


MISTAKES = [
    (["transfr"], "No such command"),
    (["transfer"], "Missing argument"),
    (["transfer", NOTE, NOTE, "--gain", "3"], "No such option"),
    (["transfer", NOTE, NOTE, "--alpha", "loud"], "--alpha"),
    (["transfer", NOTE, NOTE, "--alpha", "1.1"], "alpha is 1.1"),
    (["transfer", NOTE, NOTE, "--alpha", "nan"], "alpha is nan"),
    (["transfer", "absent.wav", NOTE], "absent.wav: no such file"),
    (["transfer", NOTE, "absent.wav"], "absent.wav: no such file"),
    (["transfer", NOTE, "absent.style"], "absent.style: no such file"),
    (["transfer", "text.wav", NOTE], "text.wav: not audio"),
    (["transfer", "empty.wav", NOTE], "empty.wav: the file is empty"),
    (["transfer", NOTE, NOTE, "-o", "a.txt"], "cannot write .txt"),
    (["transfer", NOTE, NOTE, "-o", "nowhere/a.wav"], "no such folder"),
    (["transfer", NOTE, NOTE, "-o", NOTE], "is what is read"),
    (["transfer", NOTE, NOTE, "--weights", "."], "not a weights folder"),
    (["transfer", ".", NOTE], "name the folder to write"),
    (["style", NOTE, "-o", "a.wav"], "ends in .style"),
    (["style", "absent.wav", "-o", "a.style"], "absent.wav: no such file"),
    (["live", "absent.style"], "absent.style: no such file"),
    (["live", NOTE, "--content", "absent.wav"], "absent.wav: no such file"),
    (["live", NOTE, "--block", "0"], "block is 0, expected a multiple of 16"),
    (["live", NOTE, "-o", "a.wav"], "give it with --content"),
    (["live", NOTE, "--content", NOTE, "--block", "1000"], "block is 1000, expected a multiple of 16"),
    (["export", "a.onnx", "--block", "2048"], "block is 2048, expected a multiple of 16"),
    (["transfer", NOTE, NOTE, "-o", "."], ".: is a folder; name the file to write in it"),
    (["live", NOTE, "--content", NOTE, "--seconds", "1"], "--seconds is for the microphone"),
    (["export", "nowhere/a.onnx"], "no such folder"),
    (["reproduce", "--size", "huge"], "no size 'huge'"),
    (["prepare", "--source", "folder"], "needs --path"),
    (["prepare", "data.clip=1"], "clip is 1"),
    (["prepare", "--source", "bogus"], "no source 'bogus'; there are nsynth"),
    (["prepare", "--path", ""], "--path: an empty value"),
    (["prepare", "--path", "absent"], "absent: no such file or folder"),
    (["prepare", "--seed", "4294967296"], "seed is 4294967296"),
    (["prepare", "training.epochs=3"], "training.epochs would change nothing"),
    (["reproduce", "--path", "absent"], "absent: no such file or folder"),
    (["reproduce", "--out", "text.wav"], "text.wav: is a file"),
    (["reproduce", "--out", "n" * 300], "(File name too long)"),
    (["train", "--out", "/proc/a"], "/proc/a: cannot be a folder"),
    (["train", "--out", "a", "--data", "."], "not a prepared dataset"),
    (["train", "--out", "a", "--steps", "3", "training.steps=3"], "training.steps is given twice"),
    (["recipe", "training.epochs=3", "training.epochs=4"], "training.epochs is given 2 times"),
    (["recipe", "training.\x1b[31m\n=3"], r"training.\x1b[31m\n=3"),
    (["transfer", "\x1b[31m\n.wav", NOTE], r"\x1b[31m\n.wav: no such file"),
    (["evaluate", "--out", "a", "--set", "notes", "--scheduler", ""], "--scheduler: an empty value"),
    (["evaluate", "--out", "a", "--set", "notes", "--scheduler="], "--scheduler=: an empty value"),
    (["runs", ".", "--figure", "nowhere/a.png"], "nowhere: no such folder"),
    (["data", "inf"], "No such command"),
    (["data", "info", "absent"], "absent: no such folder"),
    (["data", "render", "--path", "absent.sf2", "--out", "a"], "absent.sf2: no such file"),
    (["train"], "Missing option"),
    (["train", "--out", "a", "training.epoch=3"], "no field epoch"),
    (["train", "--out", "a", "--train", "3"], "data.train is a field, given as data.train=VALUE"),
    (["train", "--out", "a", "--minuets", "3"], "Possible options: --minutes"),
    (["reproduce", "--lerning-rate", "3"], "training.learning_rate is a field"),
    (["train", "--out", "a", "--size", "smoke", "--size", "half"], "--size is given 2 times; give it once"),
    (["data", "info", ".", "--figure", "a.png", "--figure", "b.png"], "--figure is given 2 times"),
    (["train", "--out", "a", "--data", "absent"], "absent: no such folder"),
    (["runs", "absent"], "absent: no such folder"),
    (["runs", ".", "--figure", "a.jpg"], "the picture is a .png"),
    (["profile", "--repeats", "0"], "--repeats"),
    (["evaluate", "--out", "a"], "pairs from one place"),
    (["evaluate", "--out", "a", "--pairs", "absent.csv"], "absent.csv: no such file"),
    (["evaluate", "--out", "a", "--content", "absent", "--style", "."], "absent: no such folder"),
    (["recipe", "--arm", "as_wished"], "no arm 'as_wished'"),
    (["recipe", "model.axis=time"], "axis is 'time'"),
]
HELPS = [[], ["--version"], ["--help"], ["data"]] + [[*words, "--help"] for words, _ in commands()]
RECIPE = ["recipe", "--arm", "paired", "training.epochs=3"]
CASES = [*HELPS, *(words for words, _ in MISTAKES), RECIPE]


@pytest.mark.parametrize("words", [*HELPS, RECIPE], ids=" ".join)
def test_help_and_recipes_import_nothing_heavy(answer, words):
    code, err, imported, _ = answer(words)
    assert code == 0 and not err and not imported


@pytest.mark.parametrize(
    "words,says",
    MISTAKES,
    ids=[" ".join(map(str, words)).replace(str(NOTE), "NOTE") for words, _ in MISTAKES],
)
def test_a_mistake_is_one_line_and_imports_nothing_heavy(answer, words, says):
    code, err, imported, files = answer(words)
    assert code == 2 and err.count("\n") == 1 and err.startswith("mambamuse: ") and says in err, err
    assert not imported
    assert files == ["empty.wav", "text.wav"]


def test_the_answers_can_tell_what_was_imported(tmp_path):
    "The same children, where an import is asked for: with PyTorch it is seen."
    (tmp_path / "cases.json").write_text(json.dumps([["--help"]]))
    script = f"HEAVY = {HEAVY!r}\n{FORKS}".replace(
        "mambamuse.cli.main()", "import torch; mambamuse.cli.main()"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert "torch" in json.loads((tmp_path / "0.json").read_text())[1]


def test_import_mambamuse_imports_nothing():
    script = (
        "import sys; import mambamuse; print([name for name in sys.modules if name in ('numpy', 'typer',"
        " 'soundfile')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", mambamuse.FACE)
def test_the_package_gives_each_name_when_it_is_asked_for(name):
    module, *extras = mambamuse.FACE[name]
    assert getattr(mambamuse, name) is getattr(__import__(f"mambamuse.{module}", fromlist=[name]), name)
    assert name in dir(mambamuse) and name in mambamuse.__all__ and set(extras) <= set(EXTRAS)


def test_the_package_has_a_version_and_refuses_other_names():
    assert mambamuse.__version__ == importlib.metadata.version("mambamuse")
    with pytest.raises(AttributeError, match="no attribute 'Mambamuse'"):
        mambamuse.Mambamuse


# Examples

EXAMPLES = [
    (words, line.strip())
    for words, command in commands()
    for line in command.help.partition("\b\n")[2].splitlines()
    if line.strip()
]


@pytest.fixture(scope="module")
def helps():
    "The help of each command, as it is printed in 80 columns."
    from typer.testing import CliRunner

    return {tuple(words): CliRunner().invoke(app, [*words, "--help"]).stdout for words, _ in commands()}


@pytest.mark.parametrize("words,example", EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_an_example_stands_on_one_line_of_the_help_and_is_understood(helps, words, example):
    assert example in [line.strip() for line in helps[tuple(words)].splitlines()]
    given = shlex.split(example.partition(" > ")[0].replace("$(which mambamuse)", "mambamuse"))
    given = given[given.index("mambamuse") + 1 :]
    assert given[: len(words)] == words
    command = {tuple(names): command for names, command in commands()}[tuple(words)]
    command.make_context("mambamuse", given[len(words) :])  # raises a usage error, if an option is none


def test_every_command_has_an_example():
    assert {tuple(words) for words, _ in EXAMPLES} == {tuple(words) for words, _ in commands()}


# What is declared


def canonical(name):
    return re.sub("[-_.]+", "-", name).lower()


@cache
def requirements():
    """Door (core, dev or an extra) -> the distributions that settings.ini names for it; and the extras it
    builds on.
    """
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    lines = {"core": settings["DEFAULT"]["requirements"], "dev": settings["DEFAULT"]["dev_requirements"]}
    lines |= {
        key.removeprefix("extra_"): value
        for key, value in settings["DEFAULT"].items()
        if key.startswith("extra_")
    }
    named, built_on = {}, {}
    for door, line in lines.items():
        words = line.split()
        own = [word for word in words if word.startswith("mambamuse[")]
        built_on[door] = [extra for word in own for extra in word[len("mambamuse[") : -1].split(",")]
        named[door] = {canonical(re.match(r"[\w.-]+", word)[0]) for word in words if word not in own}
    return named, built_on


def all_of(door):
    "The distributions named for `door` and for what it builds on."
    named, built_on = requirements()
    return named[door].union(named["core"], *map(all_of, built_on[door]))


def distributions(module):
    "The installed distributions that the module of this name comes from."
    return {canonical(name) for name in importlib.metadata.packages_distributions().get(module, [module])}


@cache
def at_import(module):
    "The distributions that importing `module` imports, through the package's other modules, too."
    tops, own = imports(module, inside=False)
    return set().union(*map(distributions, tops - sys.stdlib_module_names), *map(at_import, own))


@pytest.mark.parametrize("module", MODULES)
def test_every_import_is_declared(module):
    declared = set().union(*requirements()[0].values())
    undeclared = {
        name for name in imports(module)[0] - sys.stdlib_module_names if not distributions(name) & declared
    }
    assert not undeclared


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_with_one_door(module):
    fitting = [
        door for door in ("core", "torch", "judge", "notebooks", "cuda") if at_import(module) <= all_of(door)
    ]
    assert fitting, at_import(module) - all_of("notebooks")


@pytest.mark.parametrize(
    "module",
    [
        "__init__",
        "errors",
        "data.config",
        "model.config",
        "learn.config",
        "sound.audio",
        "learn.recipes",
        "cli",
        "use.demo",
    ],
)
def test_the_core_imports_with_the_core(module):
    assert at_import(module) <= all_of("core")


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_of_extras_is_what_is_declared(extra):
    assert set().union(*map(distributions, EXTRAS[extra])) == requirements()[0][extra]


def test_all_is_every_extra_of_a_user():
    assert all_of("all") == set().union(*(all_of(extra) for extra in EXTRAS))
    assert "pyside6-webengine" in requirements()[0]["dev"] and "pyside6-webengine" not in all_of("all")


def test_a_missing_extra_is_one_line(tmp_path):
    "PyTorch hidden from a process, as if it were not installed."
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "sys.argv = ['mambamuse', 'train', '--out', 'a']\n"
        "from mambamuse.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr
        == "mambamuse: torch cannot be found; install what this needs: pip install 'mambamuse[torch]'\n"
    )
    needs(*EXTRAS)


NEED_TORCH = [
    ["reproduce"],
    ["prepare"],
    ["train", "--out", "a"],
    ["train", "--out", "a", "--device", "cuda"],
    ["transfer", NOTE, NOTE, "--device", "cuda"],
    ["data", "info", "."],
    ["data", "render", "--path", NOTE, "--out", "a"],
    ["profile"],
    ["export", "a.onnx"],
    ["evaluate", "--set", "notes", "--out", "a"],
    ["study", "--weights", "a"],
]
DO_NOT = [
    ["transfer", NOTE, NOTE, "--device", "cpu"],
    ["style", NOTE, "-o", "a.style"],
    ["live", NOTE, "--content", NOTE, "--block", "64"],
    ["demo"],
    ["recipe"],
]


def test_without_numba_a_file_is_the_same_and_live_says_which_blocks_it_has(tmp_path):
    "The plain package, on ONNX Runtime."
    script = (
        "import importlib.util, sys; found = importlib.util.find_spec\n"
        "import mambamuse.errors as e; e.find_spec = lambda name: None if name == 'numba' else found(name)\n"
        "sys.modules['numba'] = None\n"
        "from mambamuse.cli import main; main()"
    )

    def run(*words):
        command = [sys.executable, "-c", script, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert run("transfer", NOTE, NOTE, "-o", "plain.wav").returncode == 0
    transfer_file(NOTE, NOTE, tmp_path / "fast.wav")
    plain, fast = (load(tmp_path / f"{name}.wav")[0] for name in ("plain", "fast"))
    assert plain.shape == fast.shape and abs(plain - fast).max() <= 2**-14
    done = run("live", NOTE, "--content", NOTE, "-o", "a.wav", "--block", "64")
    assert done.returncode == 2 and done.stderr == (
        "mambamuse: a block of 64 samples needs numba, pip install 'mambamuse[fast]';"
        " a block of 256 does not\n"
    )
    assert run("live", NOTE, "--content", NOTE, "-o", "a.wav").returncode == 0


@pytest.mark.parametrize("words", [*NEED_TORCH, *DO_NOT], ids=lambda words: " ".join(map(str, words[:1])))
def test_every_command_without_torch_works_or_says_what_to_install(tmp_path, words):
    "Not one ends in a traceback, and those that need no PyTorch run."
    script = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = {['mambamuse', *map(str, words)]!r}\n"
        "from mambamuse.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    if words in DO_NOT:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "pip install 'mambamuse[torch]'" in done.stderr and not list(tmp_path.iterdir())


def test_runs_are_compared_without_torch_and_a_missing_module_is_one_line(tmp_path):
    "pandas comes with the extra torch, and is imported by an inner module."
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "epoch": 1, "total": 2.5}\n')
    about = dict(model={}, loss={}, training={}, data={}, device="cpu", processes=1)
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))

    def without(module):
        script = (
            f"import sys; sys.modules[{module!r}] = None; sys.argv = ['mambamuse', 'runs', 'run']\n"
            "from mambamuse.cli import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    code, out, err = without("torch")
    assert code == 0 and "run      1" in out and "2.5" in out, err
    line = "mambamuse: pandas cannot be found; install what this needs: pip install 'mambamuse[torch]'\n"
    assert without("pandas") == (2, "", line)


# The lock


def test_the_lock_has_a_hash_for_every_package_and_holds_what_is_installed():
    text = (ROOT / "constraints.txt").read_text() + (ROOT / "constraints-oracle.txt").read_text()
    entries = re.findall(
        r"^([\w.-]+)==([\w.+!-]+)( ;[^\\]*)?((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", text, re.M
    )
    named = [line for line in text.splitlines() if re.match(r"[\w.-]+", line)]
    assert len(entries) == len(named) and "://" not in text
    locked = {canonical(name): version for name, version, *_ in entries}
    wanted = all_of("dev")
    assert wanted <= set(locked), wanted - set(locked)
    assert {name: importlib.metadata.version(name) for name in wanted} == {
        name: locked[name] for name in wanted
    }


# What is left behind


def test_a_transfer_leaves_nothing_in_the_users_folders(tmp_path):
    "With ONNX Runtime's telemetry not switched off from outside."
    home, work = tmp_path / "home", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    places = dict(
        HOME=home,
        TMPDIR=work,
        **{f"XDG_{name}_HOME": home / name.lower() for name in ("CACHE", "CONFIG", "DATA", "STATE")},
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | {
        k: str(v) for k, v in places.items()
    }
    command = Path(sys.executable).with_name("mambamuse")
    for words in (["transfer", NOTE, NOTE, "-o", work / "a.wav"], ["style", NOTE, "-o", work / "a.style"]):
        subprocess.run([command, *map(str, words)], check=True, capture_output=True, env=environment)
    assert not list(home.iterdir())
    assert sorted(path.name for path in work.iterdir()) == ["a.style", "a.wav"]
