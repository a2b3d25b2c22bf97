"""The whole reproduction with papermill, on a recipe small enough for a test, for both arms."""
import json
from pathlib import Path

import pandas as pd
import pytest

from mambamuse.figures import through_training
from mambamuse.generator import MambaMuse

ROOT = Path(__file__).parent.parent
TINY = ["data.train=8", "data.valid=2", "data.test=6", "data.clip=9600", "model.widths=[4,8,16,32]", "training.batch=4", "training.epochs=2"]


@pytest.fixture(scope="module")
def run(mambamuse, tmp_path_factory):
    d = tmp_path_factory.mktemp("reproduction")
    code, out, err = mambamuse("reproduce", "--arm", "as_written", "--out", "run", "--figures", "figures", "--pairs", 2, *TINY, cwd=d)
    assert code == 0, err
    return d


def test_figures_and_claims_are_drawn(run):
    names = {p.name for p in (run / "figures").iterdir()}
    assert names == {"fig1-architecture.png", "fig2-blocks.png", "fig3-losses-run.png", "fig4-training-run.png", "fig5-transfer-run.png", "claims-run.csv", "evaluation-run.csv", "evaluation-run.png"}
    claims = pd.read_csv(run / "figures" / "claims-run.csv").set_index("claim")["measured here"]
    assert claims["parameters"] == "4,205,186"
    assert "15.16 GMAC" in claims["multiply-adds"] and "0.02 M reproduced" in claims["multiply-adds"]
    assert "0.20 MB reproduced" in claims["input size"] and "275.25 MB reproduced" in claims["forward and backward"]
    assert claims["latency"].startswith("look-ahead 283 samples") and claims["expressive and natural"].count("not measured") == 6 and claims["size of the source"].startswith("not measured")


def test_every_claim_has_a_verdict_and_every_system_a_row(run):
    claims, judged = pd.read_csv(run / "figures" / "claims-run.csv"), pd.read_csv(run / "figures" / "evaluation-run.csv")
    assert len(claims) >= 40 and claims.verdict.str.match("holds|does not hold|cannot be tested here").all() and claims.notebook.notna().all()
    assert (claims.verdict[claims.basis == "run"].str.contains("tiny|smoke|cannot|holds in part|does not hold")).all(), "no verdict on quality from a small run"
    assert set(judged.system) == {"the target", "CP-CONTENT", "CP-STYLE", "envelope", "musaicing", "run"} and set(judged.set) == {"notes", "phrases"} and (judged.n == 2).all()


def test_manifest_names_everything(run):
    manifest = json.loads((run / "run" / "manifest.json").read_text())
    assert list(manifest["steps"]) == ["prepare", "train", "profile", "transfer", "evaluate", "figures", "claims"]
    assert manifest["arm"] == "as_written" and manifest["overrides"] == TINY and manifest["packages"]["torch"].startswith("2.11")
    for name, step in manifest["steps"].items():
        assert step["seconds"] > 0 and all(len(h) == 64 for h in step["outputs"].values())
        assert (run / "run" / "notebooks" / f"{name}.ipynb").is_file()


def test_the_arm_is_what_was_trained(run):
    settings = json.loads((run / "run" / "train" / "run.json").read_text())
    assert settings["loss"]["mel_gradient"] and settings["model"]["axis"] == "clip" and settings["training"]["epochs"] == 2
    assert MambaMuse.from_pretrained(run / "run" / "train" / "epoch-002").axis == "clip"


def test_a_second_run_skips_everything_and_a_missing_figure_is_redrawn(mambamuse, run):
    _, out, _ = mambamuse("reproduce", "--arm", "as_written", "--out", "run", "--figures", "figures", "--pairs", 2, *TINY, cwd=run)
    assert out.count("unchanged, skipped") == 7
    (run / "figures" / "fig4-training-run.png").unlink()
    _, out, _ = mambamuse("reproduce", "--arm", "as_written", "--out", "run", "--figures", "figures", "--pairs", 2, *TINY, cwd=run)
    assert out.count("unchanged, skipped") == 6 and "figures ..." in out and (run / "figures" / "fig4-training-run.png").is_file()


def test_the_training_notebook_shows_a_run_on_triplets_without_critics(tmp_path):
    import papermill
    tiny = ["data.train=40", "data.valid=6", "data.test=1", "data.clip=4112", "data.latest_start=1", "model.widths=[2,2,2,2]", "training.batch=2", "loss.lambda_adversarial=0"]
    done = papermill.execute_notebook(str(ROOT / "nbs" / "runs" / "train.ipynb"), None, dict(arm="paired", overrides=tiny, steps=2, out=str(tmp_path / "run")), progress_bar=False, cwd=tmp_path)
    players = [output for cell in done.cells for output in cell.get("outputs", ()) if "audio" in str(output.get("data", {}).get("text/html", ""))]
    assert len(players) == 4  # content, style, target, what came out
    titles = [ax.get_title() for ax in through_training(tmp_path / "run", "paired", "smoke").axes]
    assert titles[:4] == ["target, epoch 1", "generated"]*2
