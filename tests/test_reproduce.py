"""The whole reproduction with papermill, on a recipe small enough for a test, for both arms."""

import hashlib
import json
import shutil
import subprocess
from datetime import datetime

import pandas as pd
import pytest
from conftest import ROOT
from rocrate.rocrate import ROCrate

from mambamuse.model.generator import MambaMuse
from mambamuse.reproduce.figures import through_training
from mambamuse.reproduce.manifest import Record, Try, write_manifest

RUN = "runs/run"
TINY = [
    "data.train=8",
    "data.valid=2",
    "data.test=6",
    "data.clip=9600",
    "model.widths=[4,8,16,32]",
    "training.batch=4",
    "training.epochs=2",
]


def git(folder, *words):
    "What git says in `folder`."
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@example.invalid")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def reproduced(mambamuse, checkout):
    "The exit code, standard output and standard error of the tiny reproduction in a `checkout`."
    return mambamuse("reproduce", "--arm", "as_written", "--out", RUN, "--pairs", 2, *TINY, cwd=checkout)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    "What of the repository a reproduction or its publication could change, committed."
    d = tmp_path_factory.mktemp("checkout")
    for name in (".gitignore", "Makefile", "README.md"):
        shutil.copy(ROOT / name, d)
    for name in ("figures", "benchmarks"):
        shutil.copytree(ROOT / name, d / name)
    git(d, "init", "-q")
    git(d, "add", "-A")
    git(d, "commit", "-qm", "as published")
    return d


@pytest.fixture(scope="module")
def run(mambamuse, checkout):
    code, out, err = reproduced(mambamuse, checkout)
    assert code == 0, err
    assert f"figures and claims: {RUN}/figures" in out
    return checkout / RUN


def test_a_reproduction_leaves_the_checkout_clean(run, checkout):
    "All of it is in the run folder, which git ignores."
    assert len(list(run.rglob("*"))) > 50
    assert git(checkout, "status", "--porcelain") == ""


def test_figures_and_claims_are_drawn(run):
    names = {p.name for p in (run / "figures").iterdir()}
    assert names == {
        "fig1-architecture.png",
        "fig2-blocks.png",
        "fig3-losses-run.png",
        "fig4-training-run.png",
        "fig5-transfer-run.png",
        "claims-run.csv",
        "evaluation-run.csv",
        "evaluation-run.png",
    }
    claims = pd.read_csv(run / "figures" / "claims-run.csv").set_index("claim")["measured here"]
    assert claims["parameters"] == "4,205,186"
    assert "15.16 GMAC" in claims["multiply-adds"] and "0.02 M reproduced" in claims["multiply-adds"]
    assert (
        "0.20 MB reproduced" in claims["input size"]
        and "275.25 MB reproduced" in claims["forward and backward"]
    )
    assert (
        claims["latency"].startswith("look-ahead 283 samples")
        and claims["expressive and natural"].count("not measured") == 6
        and claims["size of the source"].startswith("not measured")
    )


def test_every_claim_has_a_verdict_and_every_system_a_row(run):
    claims, judged = (
        pd.read_csv(run / "figures" / "claims-run.csv"),
        pd.read_csv(run / "figures" / "evaluation-run.csv"),
    )
    assert (
        len(claims) >= 40
        and claims.verdict.str.match("holds|does not hold|cannot be tested here").all()
        and claims.notebook.notna().all()
    )
    assert (
        claims.verdict[claims.basis == "run"].str.contains("tiny|smoke|cannot|holds in part|does not hold")
    ).all(), "no verdict on quality from a small run"
    assert (
        set(judged.system) == {"the target", "CP-CONTENT", "CP-STYLE", "envelope", "musaicing", "run"}
        and set(judged.set) == {"notes", "phrases"}
        and (judged.n == 2).all()
    )


def test_manifest_names_everything(run):
    manifest = json.loads((run / "manifest.json").read_text())
    assert list(manifest["steps"]) == [
        "prepare",
        "train",
        "profile",
        "transfer",
        "evaluate",
        "figures",
        "claims",
    ]
    assert manifest["arm"] == "as_written" and manifest["overrides"] == TINY
    for name, step in manifest["steps"].items():
        (one,) = step["tries"]
        assert step["finished"] > one["began"] and one["seconds"] > 0
        assert one["machine"]["cpu"] and one["device"] and one["threads"]
        assert all(len(h) == 64 for h in (*step["outputs"].values(), *step["files"].values()))
        assert f"{RUN}/notebooks/{name}.ipynb" in step["files"]
        assert step["depends_on"]["code"] and step["depends_on"]["packages"]
        assert (run / "notebooks" / f"{name}.ipynb").is_file()
    assert manifest["steps"]["train"]["depends_on"]["packages"]["torch"].startswith("2.11")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_crate_names_the_maker_of_each_file(run):
    "Each file that a step left is the result of one finished action, with its hash."
    crate = ROCrate(run)
    made = {}
    for action in crate.get_by_type("CreateAction"):
        for result in action["result"]:
            if "File" in result.type:
                made.setdefault(result.id, []).append(action["name"])
    there = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert set(made) == there - {"manifest.json", "ro-crate-metadata.json", ".lock"}
    assert all(len(actions) == 1 for actions in made.values())
    assert made["train/run.json"] == ["step train"] and made["figures/claims-run.csv"] == ["step claims"]
    assert all(crate.get(name)["sha256"] == digest(run / name) for name in made)


def test_the_crate_keeps_the_rules_of_the_format(run):
    """What RO-Crate 1.1 and Process Run Crate 0.5 demand ("MUST"), as far as our crates touch it.

    `make crate` asks the format's own checker.
    """
    text = json.loads((run / "ro-crate-metadata.json").read_text())
    assert text["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    entities = {entity["@id"]: entity for entity in text["@graph"]}
    assert len(entities) == len(text["@graph"]), "an entity has an @id of its own"
    assert all("@type" in entity for entity in entities.values())
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork" and descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities["./"]
    assert root["@type"] == "Dataset" and {"name", "description", "datePublished", "license"} <= set(root)
    assert root["conformsTo"] == {"@id": "https://w3id.org/ro/wfrun/process/0.5"}

    def references(value):
        "The @ids that a value points to."
        if isinstance(value, list):
            return set().union(*map(references, value))
        return {value["@id"]} if isinstance(value, dict) else set()

    mentioned = set().union(*(references(v) for e in entities.values() for v in e.values()))
    assert mentioned - set(entities) == {"https://w3id.org/ro/crate/1.1"}, "no reference leads nowhere"
    linked, waiting = set(), {"./"}
    while waiting:
        name = waiting.pop()
        linked.add(name)
        waiting |= references(entities[name].get("hasPart", [])) - linked
    data = {name for name, e in entities.items() if e["@type"] in ("File", "Dataset")}
    assert data == linked, "each file hangs from the root"
    assert all((run / name).exists() for name in data)
    actions = [e for e in entities.values() if e["@type"] == "CreateAction"]
    assert len(actions) == 7 and {a["@id"] for a in actions} == references(root["mentions"])
    for action in actions:
        (instrument,) = references(action["instrument"])
        assert entities[instrument]["@type"] == "SoftwareSourceCode"
        assert references(action["result"]) and action["name"] and action["description"]
        assert datetime.fromisoformat(action["startTime"]) <= datetime.fromisoformat(action["endTime"])
        assert {entities[i]["@type"] for i in references(action["environment"])} == {"PropertyValue"}


def test_the_arm_is_what_was_trained(run):
    settings = json.loads((run / "train" / "run.json").read_text())
    assert (
        settings["loss"]["mel_gradient"]
        and settings["model"]["axis"] == "clip"
        and settings["training"]["epochs"] == 2
    )
    assert MambaMuse.from_pretrained(run / "train" / "epoch-002").axis == "clip"


def test_a_second_run_skips_everything_and_a_missing_figure_is_redrawn(mambamuse, run, checkout):
    _, out, _ = reproduced(mambamuse, checkout)
    assert out.count("unchanged, skipped") == 7
    (run / "figures" / "fig4-training-run.png").unlink()
    _, out, _ = reproduced(mambamuse, checkout)
    assert (
        out.count("unchanged, skipped") == 6
        and "figures (outputs: " in out
        and (run / "figures" / "fig4-training-run.png").is_file()
    )


def test_publishing_copies_a_run_into_the_figures_and_the_readme(tmp_path):
    """A run whose claims table has another number: the figures take it, README.md quotes it. A run that is
    not there is one line.
    """
    checkout, name = tmp_path / "checkout", "claims-as_run-smoke.csv"
    published = checkout / "runs" / "mine" / "figures"
    published.mkdir(parents=True)
    (checkout / "tests").mkdir()
    (checkout / "docs").mkdir()
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    for file in ("Makefile", "README.md", "settings.ini", "tests/quotations.csv", "docs/stored.py"):
        shutil.copy(ROOT / file, checkout / file)
    for folder in ("nbs", "figures", "benchmarks"):
        shutil.copytree(ROOT / folder, checkout / folder)
    table = (ROOT / "figures" / name).read_text()
    (published / name).write_text(table.replace("4,205,186", "7,654,321"))
    made = Record(depends_on={}, outputs={f"runs/mine/figures/{name}": "00"}, tries=[Try()], finished=1)
    write_manifest(published.parent, dict(arm="as_run", size="smoke", overrides=[]), dict(claims=made))

    def publish(run):
        return subprocess.run(
            ["make", "-s", "-C", checkout, "-o", ".venv/installed", "publish", f"RUN={run}"],
            capture_output=True,
            text=True,
        )

    nothing = publish("runs/yours")
    assert nothing.returncode == 2 and nothing.stderr.splitlines()[0].startswith(
        "runs/yours/figures: there is nothing to publish"
    )
    assert (checkout / "README.md").read_text() == (ROOT / "README.md").read_text()

    done = publish("runs/mine")
    assert done.returncode == 0, done.stderr
    assert (checkout / "figures" / name).read_text() == (published / name).read_text() != table
    assert "7,654,321" in (checkout / "README.md").read_text()
    assert "7,654,321" in (checkout / "nbs" / "pages" / "results.ipynb").read_text()
    assert (
        "mambamuse reproduce --arm as_run --size smoke (step claims)"
        in (checkout / "figures" / "ORIGINS.md").read_text()
    )


def test_the_training_notebook_shows_a_run_on_triplets_without_critics(tmp_path):
    import papermill

    tiny = [
        "data.train=40",
        "data.valid=6",
        "data.test=1",
        "data.clip=4112",
        "data.latest_start=1",
        "model.widths=[2,2,2,2]",
        "training.batch=2",
        "loss.lambda_adversarial=0",
    ]
    done = papermill.execute_notebook(
        str(ROOT / "nbs" / "runs" / "train.ipynb"),
        None,
        dict(arm="paired", overrides=tiny, steps=2, out=str(tmp_path / "run")),
        progress_bar=False,
        cwd=tmp_path,
    )
    players = [
        output
        for cell in done.cells
        for output in cell.get("outputs", ())
        if "audio" in str(output.get("data", {}).get("text/html", ""))
    ]
    assert len(players) == 4  # content, style, target, what came out
    titles = [ax.get_title() for ax in through_training(tmp_path / "run", "paired", "smoke").axes]
    assert titles[:4] == ["target, epoch 1", "generated"] * 2
