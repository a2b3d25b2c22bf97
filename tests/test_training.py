"""Training as it fares in the world: killed, out of disk, told to stop, on two processes; real processes,
real signals, real limits.
"""

import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import psutil
import pytest
import torch

from mambamuse.data.config import DataConfig
from mambamuse.data.notes import MINI
from mambamuse.data.prepare import prepare
from mambamuse.data.triplets import Triplets
from mambamuse.errors import InputError
from mambamuse.judge.shipped import validation_curve
from mambamuse.learn.checkpoints import checkpoints, digest, read_checkpoint, write_checkpoint
from mambamuse.learn.config import OPTIMISERS, TrainingConfig
from mambamuse.learn.losses import LossConfig, MelLoss
from mambamuse.learn.optimisers import matrices
from mambamuse.learn.runs import compare, plot_runs
from mambamuse.learn.tasks import alpha_at, skips_at
from mambamuse.learn.train import Order, order_key, train, train_recipe
from mambamuse.learn.trainer import Trainer
from mambamuse.model.config import ModelConfig
from mambamuse.model.generator import MambaMuse
from mambamuse.model.weights import load_model
from mambamuse.use.tone import band_levels, toned

MODEL = ModelConfig(widths=(2, 2, 2, 2))
TRAINING = TrainingConfig(
    batch=2, steps=5, warmup=1, learning_rate=1e-3, critic_width=1 / 8, save_every=2, ema=0.9
)  # three steps an epoch
TINY = [
    "data.train=7",
    "data.valid=2",
    "data.test=1",
    "data.clip=4112",
    "model.widths=[2,2,2,2]",
    "training.batch=2",
]
LOSSES = "total", "mel", "stft", "adversarial", "critics"
FORK = multiprocessing.get_context(
    "forkserver"
)  # a process of its own for each run, without the seconds of importing PyTorch
FORK.set_forkserver_preload(["mambamuse.learn.trainer"])


def in_process(data, out, training, largest_file, how):
    "What runs in a process of its own; its complaint, if any, goes to `out.said`."
    torch.set_num_threads(1)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    try:
        train(data, out, MODEL, training=training, resume=True, **how)
    except InputError as error:
        Path(f"{out}.said").write_text(str(error))
        sys.exit(2)


def start(data, out, training=TRAINING, largest_file=0, **how):
    process = FORK.Process(target=in_process, args=(data, out, training, largest_file, how))
    process.start()
    return process


def finish(process) -> int:
    process.join(60)
    return process.exitcode


def wait_for(condition, process):
    "Until `condition()` or the end of `process`."
    end = monotonic() + 60
    while not condition() and process.is_alive() and monotonic() < end:
        sleep(0.001)


def steps(out) -> int:
    path = Path(out) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill(process):
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    return finish(process)


def all_of(out) -> dict:
    "Hashes of the two logs and of every tensor file of the last checkpoint."
    last = checkpoints(Path(out) / "checkpoints")[0]
    return {
        p.name: digest(p.read_bytes())
        for p in (
            Path(out) / "metrics.jsonl",
            Path(out) / "validation.jsonl",
            *sorted(last.glob("*.safetensors")),
        )
    } | {"last": last.name}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notes") / "data"
    prepare(MINI, folder, DataConfig(train=7, valid=2, test=1, clip=4_112))
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    "What an uninterrupted run leaves."
    out = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(data, out)) == 0
    assert steps(out) == 5 and len(all_of(out)) == 9
    assert json.loads((out / "run.json").read_text())["threads"] == 1
    return all_of(out)


def test_killed_at_random_and_resumed_is_the_same_to_the_bit(data, whole, tmp_path):
    killed = 0
    for at in (1, 3):
        process = start(data, tmp_path / "run")
        wait_for(lambda: steps(tmp_path / "run") >= at, process)
        sleep(random.uniform(0, 0.2))
        killed += kill(process) == -signal.SIGKILL
    assert killed
    assert finish(start(data, tmp_path / "run")) == 0
    assert all_of(tmp_path / "run") == whole


def test_killed_while_saving_leaves_the_last_good_one(data, whole, tmp_path):
    process, folder = (
        start(data, tmp_path / "run", replace(TRAINING, save_every=1)),
        tmp_path / "run" / "checkpoints",
    )
    wait_for(lambda: steps(tmp_path / "run") > 1 and list(folder.glob(".step-*.part")), process)
    assert kill(process) == -signal.SIGKILL
    for path in checkpoints(folder):
        read_checkpoint(path)  # whatever has a name is whole
    assert finish(start(data, tmp_path / "run")) == 0
    assert all_of(tmp_path / "run") == whole and not list(folder.glob(".*"))


def test_disk_full_names_the_checkpoint_and_loses_nothing(data, whole, tmp_path):
    out = tmp_path / "run"
    assert finish(start(data, out, minutes=1e-9)) == 0 and steps(out) == 1
    assert finish(start(data, out, largest_file=1_000_000)) == 2
    said = Path(f"{out}.said").read_text()
    assert "step-00000002: the checkpoint cannot be written (File too large)" in said and "\n" not in said
    assert [p.name for p in checkpoints(out / "checkpoints")] == ["step-00000001"] and not list(
        (out / "checkpoints").glob(".*")
    )
    assert finish(start(data, out)) == 0
    assert all_of(out) == whole


def test_a_reader_that_dies_is_named_and_nothing_is_lost(data, whole, tmp_path):
    process = start(data, tmp_path / "run", replace(TRAINING, workers=1))
    wait_for(lambda: steps(tmp_path / "run") >= 2, process)
    psutil.Process(process.pid).children()[0].kill()
    assert finish(process) == 2
    said = (tmp_path / "run.said").read_text()
    assert said.startswith(f"{data}: a process that reads clips died") and "\n" not in said
    assert finish(start(data, tmp_path / "run")) == 0
    assert all_of(tmp_path / "run") == whole


def test_a_missing_or_short_shard_is_named(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    shard = tmp_path / "data" / "data" / "train-00000-of-00001.arrow"
    os.truncate(shard, 1_000)
    with pytest.raises(InputError, match=r"train-00000-of-00001.arrow: 1,000 bytes, expected"):
        train(tmp_path / "data", tmp_path / "run", MODEL, training=TRAINING)
    shard.unlink()
    with pytest.raises(InputError, match=r"train-00000-of-00001.arrow: missing"):
        train(tmp_path / "data", tmp_path / "run", MODEL, training=TRAINING)


def test_a_run_older_than_a_field_goes_on_as_it_did(data, whole, tmp_path):
    out = tmp_path / "run"
    assert finish(start(data, out, minutes=1e-9)) == 0 and steps(out) == 1
    (folder,) = checkpoints(out / "checkpoints")
    tensors, state = read_checkpoint(folder)
    del state["recipe"]["training"]["drop_skips"]
    shutil.rmtree(folder)
    write_checkpoint(folder, tensors, state)
    assert finish(start(data, out, replace(TRAINING, drop_skips=0.5))) == 2
    assert (
        Path(f"{out}.said")
        .read_text()
        .endswith("of another configuration: training.drop_skips was 0.0, is 0.5")
    )
    assert finish(start(data, out)) == 0
    assert all_of(out) == whole


@pytest.mark.parametrize("text", [None, "{}", "null"])
def test_a_run_whose_record_is_lost_does_not_go_on(data, tmp_path, text):
    out = tmp_path / "run"
    train(data, out, MODEL, training=replace(TRAINING, steps=1))
    (out / "run.json").unlink()
    if text is not None:
        (out / "run.json").write_text(text)
    with pytest.raises(InputError, match="run.json: (no such file|not a record of a run)"):
        train(data, out, MODEL, training=TRAINING, resume=True)
    assert steps(out) == 1 and (out / "run.json").exists() == (text is not None)


def test_other_data_is_another_configuration(data, tmp_path):
    train(data, tmp_path / "run", MODEL, training=replace(TRAINING, steps=1))
    prepare(MINI, tmp_path / "data", DataConfig(train=7, valid=2, test=1, clip=4_112, seed=1))
    with pytest.raises(InputError, match=r"step-00000001: of another configuration: data.sha256 was"):
        train(tmp_path / "data", tmp_path / "run", MODEL, training=TRAINING, resume=True)


def test_two_processes_train_like_one(data, tmp_path):
    """Through torchrun and gloo; spectral convergence couples the clips of a batch, and must not notice that
    they are shared.
    """
    changes = [*TINY[:4], "model.widths=[4,8,16,32]", "training.batch=4", "training.learning_rate=2e-4"]
    train_recipe(tmp_path / "one", overrides=changes, data=data, steps=3)
    command = [
        Path(sys.executable).with_name("torchrun"),
        "--nproc-per-node",
        "2",
        Path(sys.executable).with_name("mambamuse"),
    ]
    done = subprocess.run(
        [*command, "train", "--data", data, "--out", tmp_path / "two", "--steps", "3", *changes],
        capture_output=True,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )
    assert done.returncode == 0 and done.stdout.count("3 steps") == 1, done.stderr[-2_000:]
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    one, two = (
        [json.loads(line) for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()]
        for out in ("one", "two")
    )
    assert two[0] == pytest.approx(one[0], rel=1e-5)  # gradient norms, too
    for a, b in zip(one, two, strict=True):
        assert [b[k] for k in LOSSES] == pytest.approx([a[k] for k in LOSSES], rel=1e-5)


def test_sigterm_ends_the_command_with_a_checkpoint_and_runs_compares(mambamuse, tmp_path):
    words = ["train", "--out", "run", *TINY, "training.epochs=1000"]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("mambamuse"), *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )
    end = monotonic() + 60
    while steps(tmp_path / "run") < 1 and process.poll() is None and monotonic() < end:
        sleep(0.01)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "stopped (SIGTERM) with a checkpoint: go on with --resume" in out, err
    assert checkpoints(tmp_path / "run" / "checkpoints")[0].name == f"step-{steps(tmp_path / 'run'):08d}"
    code, out, err = mambamuse("runs", "run", "--figure", "runs.png", cwd=tmp_path)
    assert (
        code == 0
        and f"run {steps(tmp_path / 'run'):6d}" in out
        and (tmp_path / "runs.png").stat().st_size > 10_000
    ), err
    code, _, err = mambamuse("runs", "run", "nothing", cwd=tmp_path)
    assert code == 2 and err == "mambamuse: nothing: no such folder\n"
    code, out, err = mambamuse("runs", ".", cwd=tmp_path)
    assert code == 0 and f"run {steps(tmp_path / 'run'):6d}" in out, err
    code, _, err = mambamuse("runs", "run/data", cwd=tmp_path)
    assert (
        code == 2 and err == "mambamuse: run/data: not a run folder, and no run with a recorded step in it\n"
    )


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_in_place_of_weights_is_refused_unread(tmp_path):
    MambaMuse(widths=(2, 2, 2, 2)).save_pretrained(tmp_path)
    attack = pickle.dumps(Payload(tmp_path / "opened"))
    (tmp_path / "model.safetensors").write_bytes(attack)
    with pytest.raises(InputError, match="these weights do not load"):
        load_model(tmp_path)
    assert not (tmp_path / "opened").exists()
    pickle.loads(attack)
    assert (tmp_path / "opened").exists()  # it would have


def test_tensorboard_says_what_the_metrics_say(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for count in (1, 3):
        train(
            data,
            tmp_path / "run",
            MODEL,
            training=replace(TRAINING, steps=count),
            resume=True,
            tensorboard=True,
        )
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(e.step, e.value) for e in events.Scalars("stft")] == [
        (row["step"], pytest.approx(row["stft"])) for row in rows
    ]
    assert len(events.Images("mels")) == len(events.Tags()["audio"]) * 2 == 2


def test_bfloat16_is_near_float32():
    real = torch.rand(2, 1, 4_112) - 0.5
    exact, near = (
        Trainer(
            ModelConfig(widths=(4, 8, 16, 32)), LossConfig(), replace(TRAINING, precision=precision)
        ).step(real)
        for precision in ("float32", "bf16")
    )
    for name in ("stft", "adversarial", "critics"):
        assert near[name] != exact[name] and near[name] == pytest.approx(exact[name], rel=0.02)


PAIRED = LossConfig(
    lambda_mel=2,
    lambda_stft=1,
    mel_gradient=True,
    mel_bands=128,
    mel_floor=1e-5,
    stft_reference="real",
    stft_mels=0,
    stft_weighted=False,
    stft_reduction="sum",
    stft_floor=1e-4,
    lambda_adversarial=0,
    lambda_wave=10,
)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_paired_training_follows_its_tasks_and_resumes_to_the_bit(tmp_path, optimiser):
    prepare(MINI, tmp_path / "data", DataConfig(train=102, valid=16, test=16, clip=64_000))
    model = replace(MODEL, axis="clip", alphas=(1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0), bypass=False)
    training = replace(
        TRAINING,
        optimiser=optimiser,
        reconstruct=0.2,
        partial=0.56,
        drop_skips=0.5,
        steps=6,
        epoch_steps=3,
        save_every=6,
        shuffle=True,
    )

    def run(out, **more):
        return train(tmp_path / "data", tmp_path / out, model, PAIRED, training, **more)

    run("whole")
    for _ in range(3):
        run("parts", resume=True, minutes=1e-9)
    run("parts", resume=True)
    assert all_of(tmp_path / "parts") == all_of(tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["alpha"] for row in rows] == [alpha_at(step, training) for step in range(6)] and {
        row["alpha"] in (0, 1) for row in rows
    } == {True, False}
    assert [row["skips"] for row in rows] == [skips_at(step, training) for step in range(6)] and {
        row["skips"] < 4 for row in rows
    } == {True, False}
    assert all(("wave" in row) == (row["alpha"] == 0) and "critics" not in row for row in rows)
    for row in rows:
        assert row["total"] == pytest.approx(2 * row["mel"] + row["stft"] + 10 * row.get("wave", 0), rel=1e-5)
    assert sorted(p.name for p in (tmp_path / "whole").glob("epoch-*")) == ["epoch-001", "epoch-002"]
    assert {p.name for p in (tmp_path / "whole" / "epoch-002").glob("*.wav")} == {
        "content.wav",
        "style.wav",
        "target.wav",
        "generated.wav",
    }
    both = compare([tmp_path / "whole", tmp_path / "parts"])  # of runs without critics
    assert set(json.loads((tmp_path / "whole" / "run.json").read_text())["parameters"]) == {"generator"}
    saved = {p.stem for p in (tmp_path / "whole" / "checkpoints").glob("*/*.safetensors")}
    assert saved == {"generator", "adamw_generator", "average", "random"}
    assert both.critics.isna().all() and both.total[0] == both.total[1] == pytest.approx(
        sum(row["total"] for row in rows[3:]) / 3
    )
    plot_runs([tmp_path / "whole"])


def test_the_validation_curve_follows_the_pieces_and_knows_what_copying_scores(tmp_path):
    prepare(MINI, tmp_path / "data", DataConfig(train=102, valid=16, test=16, clip=64_000))
    model, training = replace(MODEL, alphas=(1.0,) * 5), replace(TRAINING, epoch_steps=2, save_every=2)
    train(tmp_path / "data", tmp_path / "first", model, PAIRED, replace(training, steps=4))
    other = replace(PAIRED, mel_floor=1e-2)
    train(
        tmp_path / "data",
        tmp_path / "second",
        model,
        other,
        replace(training, steps=2, init=str(tmp_path / "first" / "epoch-001")),
    )
    curve, triplets = (
        validation_curve(tmp_path / "second", tmp_path / "data"),
        Triplets(tmp_path / "data", "valid"),
    )
    assert list(zip(curve.run, curve.step, curve.done)) == [
        ("first", 2, 2),
        ("second", 2, 4),
    ]  # the first one's second epoch led nowhere
    for losses, copied in zip((PAIRED, other), curve.copy_mel):
        mel = MelLoss(True, losses.mel_bands, losses.mel_floor)
        assert copied == pytest.approx(
            np.mean([mel(x[None, :1], x[None, 2:]).item() for x in triplets]), rel=1e-5
        )
    assert list(curve.mel) == [
        json.loads((tmp_path / name / "validation.jsonl").read_text().splitlines()[0])["mel"]
        for name in ("first", "second")
    ]


def test_pieces_of_a_training_and_passes_through_the_data_have_orders_of_their_own(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)

    def order(**changes):
        training = replace(TRAINING, **changes)
        return sum(Order(12, 4, 0, 6, key=order_key(training)), [])

    lying = order()
    assert lying == 2 * list(range(12))
    pieces = [
        order(shuffle=True, **more) for more in ({}, dict(init=f"{tmp_path}/a"), dict(init=f"{tmp_path}/b"))
    ]
    pieces.append(order(shuffle=True, seed=TRAINING.seed + 1))
    assert order(shuffle=True) == pieces[0]
    passes = {tuple(rows[i : i + 12]) for rows in pieces for i in (0, 12)}
    assert len(passes) == 8 and all(sorted(rows) == list(range(12)) for rows in passes)


def test_muon_moves_the_matrices_elsewhere_and_starts_the_same():
    real = torch.rand(2, 1, 4_112) - 0.5
    adamw, muon = (
        Trainer(ModelConfig(widths=(4, 8, 16, 32)), LossConfig(), replace(TRAINING, optimiser=name, ema=0.0))
        for name in OPTIMISERS
    )
    before = [p.detach().clone() for p in muon.generator.parameters()]
    assert all(map(torch.equal, before, adamw.generator.parameters()))
    adamw.step(real), muon.step(real)
    mixing = {id(p) for p in matrices(muon.generator)}
    for old, ours, theirs in zip(before, muon.generator.parameters(), adamw.generator.parameters()):
        if id(ours) not in mixing:
            assert torch.equal(ours, theirs)
        else:
            moved = (ours.detach() - (1 - 1e-5) * old).flatten(1)  # without the decay
            longest = torch.linalg.svdvals(moved)[0] / (0.2e-3 * max(moved.shape) ** 0.5)
            assert 0.6 < longest < 1.3 and not torch.equal(ours, theirs)


def test_feature_matching_is_asked_for_where_there_is_a_recording():
    model = ModelConfig(widths=(4, 8, 16, 32), axis="clip", alphas=(1.0,) * 9, bypass=False)
    triplets = torch.randn(2, 3, 8_192, generator=torch.Generator().manual_seed(0))

    def trainer(**losses):
        return Trainer(model, replace(PAIRED, **losses), TRAINING)

    both, only, neither = (
        trainer(lambda_adversarial=1, lambda_features=2),
        trainer(lambda_features=2),
        trainer(lambda_adversarial=1),
    )
    critics = both.critics.eval()
    with torch.no_grad():
        seen, wanted = (
            critics(both.generator.eval()(triplets[:, :1], triplets[:, 1:2])),
            critics(triplets[:, 2:]),
        )
    matched = sum((a - b).abs().mean().item() for layers in zip(seen, wanted) for a, b in zip(*layers))
    rows = [t.step(triplets, 1.0) for t in (both, only, neither)]
    for row in rows[:2]:
        assert row["features"] == pytest.approx(
            matched, rel=1e-2
        )  # but for one refinement of the spectral norm
    for row, adversarial, features in zip(rows, (1, 0, 1), (2, 2, 0)):
        assert row["total"] == pytest.approx(
            2 * row["mel"]
            + row["stft"]
            + adversarial * row["adversarial"]
            + features * row.get("features", 0),
            rel=1e-5,
        )
        assert row["critics"] > 0 and row["grad_mpd"] > 0
    assert (
        "features" not in rows[2]
        and "features" not in both.step(triplets, 0.5)
        and "features" in both.step(triplets, 0.0)
    )


def test_a_step_of_transfer_in_pieces_is_the_step():
    model = ModelConfig(widths=(4, 8, 16, 32), axis="clip", alphas=(1.0,) * 9, bypass=False)
    triplets = torch.randn(4, 3, 8_192, generator=torch.Generator().manual_seed(0))
    one, pieces = (
        Trainer(model, PAIRED, replace(TRAINING, batch=4, accumulate=n)).step(triplets, 0.6, 2)
        for n in (1, 4)
    )
    for name in ("total", "mel", "stft", "grad_generator"):
        assert pieces[name] == pytest.approx(one[name], rel=1e-4), name


def test_the_losses_hear_the_tone():
    "By the share of the recipe, times the blend; a reconstruction has none."
    model = ModelConfig(widths=(2, 2, 2, 2), axis="clip", alphas=(1.0,) * 5, tone=0.5)
    trainer = Trainer(model, PAIRED, replace(TRAINING, ema=0.0))
    triplet = torch.randn(1, 3, 8_192, generator=torch.Generator().manual_seed(0)).cumsum(-1).sin()
    content, style, _ = triplet.split(1, 1)
    for alpha in (1.0, 0.6):
        heard, _ = trainer.generated(trainer.generator, triplet, alpha)
        plain = trainer.generator(content, style, [alpha * a for a in trainer.generator.alphas])
        want = toned(plain[0].detach().numpy(), band_levels(style[0].numpy()), 0.5 * alpha)
        assert abs(plain[0].detach() - torch.from_numpy(want)).max() > 1e-3
        assert torch.allclose(heard[0].detach(), torch.from_numpy(want), atol=1e-5)
    assert torch.equal(trainer.generated(trainer.generator, triplet, 0.0)[0], trainer.generator(content))


def test_what_a_step_of_transfer_asks_for():
    """Only the blend and the target count: at alpha 1 the content is no reference, at alpha 0 neither style
    nor target are.
    """
    trainer = Trainer(
        ModelConfig(widths=(2, 2, 2, 2), axis="clip", alphas=(1.0,) * 5), PAIRED, replace(TRAINING, ema=0.0)
    )
    content, style, target = torch.randn(3, 1, 1, 8_192, generator=torch.Generator().manual_seed(0))
    generated, (reference, *_) = trainer.generated(
        trainer.generator, torch.cat([content, style, target], 1), 1.0
    )
    assert torch.equal(generated, trainer.generator(content, style)) and torch.equal(reference, target)
    assert torch.equal(
        trainer.generated(trainer.generator, torch.cat([content, style, target], 1), 1.0, 1)[0],
        trainer.generator(content, style, skips=1),
    )

    def loss(*triplet, alpha):
        return trainer.generator_loss(torch.cat(triplet, 1), alpha)[0]["total"].item()

    assert (
        loss(content, style, target, alpha=0.0)
        == loss(content, target, style, alpha=0.0)
        != loss(content, style, target, alpha=1.0)
    )


def test_the_arm_paired_trains_on_the_embedded_notes(tmp_path):
    notes = [
        "data.train=102",
        "data.valid=16",
        "data.test=16",
        "data.clip=4112",
        "model.widths=[2,2,2,2]",
        "training.batch=2",
    ]
    summary = train_recipe(tmp_path / "run", "paired", "smoke", notes, steps=2, seed=3)
    assert summary["steps"] == 2 and load_model(tmp_path / "run" / "epoch-001").alphas[5:] == (1, 1, 1, 0)


def test_a_run_begins_with_the_weights_of_another_or_says_why_not(data, tmp_path):
    still = replace(TRAINING, learning_rate=1e-30, ema=0.0, steps=2, critic_width=1 / 8)

    def validated(out):
        return json.loads((tmp_path / out / "validation.jsonl").read_text())["mel"]

    train(data, tmp_path / "first", MODEL, training=replace(still, learning_rate=1e-2))
    first = tmp_path / "first" / "epoch-001"
    train(data, tmp_path / "second", MODEL, training=replace(still, init=str(first), seed=7))
    train(data, tmp_path / "other", MODEL, training=replace(still, seed=7))
    assert validated("second") == validated("first") != validated("other")
    with pytest.raises(InputError, match="training.init is .*nowhere: no folder of weights"):
        train(data, tmp_path / "a", MODEL, training=replace(still, init=str(tmp_path / "nowhere")))
    twice = replace(MODEL, widths=tuple(2 * width for width in MODEL.widths))
    train(data, tmp_path / "wide", twice, training=replace(still, init=str(first)))
    assert validated("wide") == pytest.approx(validated("first"), rel=1e-4)
    for i, widths in enumerate(((4, 2, 2, 2), (8, 4, 4, 4))):
        with pytest.raises(InputError, match="weights of another generator"):
            other = replace(MODEL, widths=widths)
            train(data, tmp_path / f"b{i}", other, training=replace(still, init=str(first)))
