"""No setting is ignored: every field of every section is changed, and the run, or the refusal, shows it."""

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from mambamuse.data.config import USED, DataConfig
from mambamuse.data.notes import MINI
from mambamuse.data.prepare import prepare
from mambamuse.errors import InputError
from mambamuse.fields import explained
from mambamuse.learn.config import LossConfig, TrainingConfig
from mambamuse.learn.losses import LevelLoss, SpectralLosses, STFTDistance
from mambamuse.learn.recipes import SECTIONS, explain, idle, idle_data, recipe
from mambamuse.learn.run import Run
from mambamuse.learn.train import ahead, train, train_recipe
from mambamuse.learn.trainer import Trainer
from mambamuse.model.config import ModelConfig
from mambamuse.model.generator import MambaMuse

# data: field -> another value
FROM_NOTES = dict(
    train=8,
    valid=3,
    test=2,
    clip=4_160,
    latest_start=1,
    velocity_over=100,
    drop_sources=("acoustic",),
    seed=1,
)
FROM_RECORDINGS = dict(short="pad", silence=-3.0)
DRAWN = dict(coloured=1.0, quietest=0.0)
SOUNDFONTS = dict(held=1.0, generated=0.0, shifted=1.0)


def prepared(tmp_path, name, source, path, config):
    "The checksums of what `prepare` makes, or what it refuses with."
    try:
        report = prepare(path, tmp_path / name, config, source)
    except InputError as error:
        return str(error).replace(str(tmp_path / name), "")
    return {file: about["sha256"] for file, about in report["files"].items()}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    "Six recordings: two short ones, two soft ones, two that are neither."
    folder = tmp_path_factory.mktemp("recordings")
    noise = np.random.default_rng(0).standard_normal(20_000)
    for i in range(6):
        sound = noise[: 3_000 if i < 2 else 20_000] * (0.05 if 1 < i < 4 else 0.25)
        sf.write(folder / f"{i}.wav", np.clip(sound, -1, 1), 16_000)
    return folder


@pytest.mark.parametrize("name", FROM_NOTES)
def test_data_from_notes(tmp_path, name):
    config = DataConfig(train=7, valid=2, test=1, clip=4_112)
    one = prepared(tmp_path, "a", "nsynth", MINI, config)
    assert one != prepared(tmp_path, "b", "nsynth", MINI, replace(config, **{name: FROM_NOTES[name]}))


@pytest.mark.parametrize("name", FROM_RECORDINGS)
def test_data_from_recordings(tmp_path, recordings, name):
    config = DataConfig(train=4 if name == "short" else 2, valid=1, test=1, clip=4_112)
    one = prepared(tmp_path, "a", "folder", recordings, config)
    assert one != prepared(
        tmp_path, "b", "folder", recordings, replace(config, **{name: FROM_RECORDINGS[name]})
    )


@pytest.mark.parametrize("name", DRAWN)
def test_data_from_drawn_instruments(tmp_path, name):
    config = DataConfig(train=3, valid=1, test=1, clip=4_112)
    one = prepared(tmp_path, "a", "instruments", [], config)
    assert one != prepared(tmp_path, "b", "instruments", [], replace(config, **{name: DRAWN[name]}))


@pytest.mark.parametrize("name", SOUNDFONTS)
def test_data_from_soundfonts(tmp_path, name):
    font = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
    if not font.exists():
        pytest.skip("there is no soundfont here (Debian: timgm6mb-soundfont)")
    config = DataConfig(train=2, valid=1, test=1, clip=4_112, generated=0.5 if name == "shifted" else 1.0)
    source = "phrases" if name == "held" else "instruments"
    one = prepared(tmp_path, "a", source, font, config)
    assert one != prepared(tmp_path, "b", source, font, replace(config, **{name: SOUNDFONTS[name]}))


def test_players_of_soundfonts_need_soundfonts(tmp_path):
    with pytest.raises(InputError, match=r"data.generated is 0.5"):
        prepare([], tmp_path / "a", DataConfig(train=1, valid=1, test=1, generated=0.5), "instruments")
    with pytest.raises(InputError, match=r"data.shifted is 0.5: all players are drawn"):
        prepare([], tmp_path / "a", DataConfig(train=1, valid=1, test=1, shifted=0.5), "instruments")


# Model

MODEL = dict(
    widths=(2, 2, 2, 4), axis="clip", alphas=(0.5, 1.0, 1.0, 1.0, 0.0), bypass=False, sets=2, tone=0.5
)


@pytest.mark.parametrize("name", MODEL)
def test_model(name):
    "`tone` acts behind the network, in its transfer."
    base = ModelConfig(widths=(2, 2, 2, 2), axis="clip" if name in ("sets", "tone") else "frame")
    sounds = torch.randn(2, 1, 1, 8_192, generator=torch.Generator().manual_seed(0))
    outputs, transfers = [], []
    for config in (base, replace(base, **{name: MODEL[name]})):
        torch.manual_seed(0)
        model = MambaMuse(**asdict(config)).eval()
        outputs.append(model(*sounds))
        transfers.append(model.transfer(*sounds[:, 0, 0].numpy()))
    assert torch.equal(*outputs) == (name == "tone") and not np.array_equal(*transfers)


def test_a_tone_is_of_the_clip_axis():
    with pytest.raises(InputError, match="model.tone would change nothing: on the axis frame"):
        recipe("as_run", "half", ["model.tone=0.5"])
    assert recipe("paired", "half", ["model.axis=frame"]).model.tone == 0.5  # and has no effect


# Losses

LOSS = dict(
    lambda_mel=1.0,
    lambda_stft=1.0,
    mel_gradient=False,
    stft_reference="real",
    stft_mels=0,
    stft_weighted=False,
    stft_reduction="sum",
    stft_floor=1e-2,
    stft_ffts=(512,),
    stft_convergence=0.5,
    stft_scaled=True,
    mel_bands=40,
    mel_ffts=(1_024,),
    mel_floor=1e-1,
    lambda_adversarial=0.5,
    lambda_features=0.5,
    lambda_level=0.5,
    level_frame=4_096,
    level_bands=8,
    lambda_wave=0.5,
)
ALL = LossConfig(mel_gradient=True, lambda_features=1, lambda_level=1, lambda_wave=1)
TINY = ModelConfig(widths=(2, 2, 2, 2))
BASE = TrainingConfig(batch=2, epochs=4, warmup=1, learning_rate=1e-3, critic_width=1 / 8, patience=2)


def stepped(loss, training=BASE, alpha=0.0):
    "The numbers of a step, and the generator's weights after it."
    trainer = Trainer(TINY, loss, training)
    real = torch.randn(2, 1 if not alpha else 3, 8_192, generator=torch.Generator().manual_seed(0))
    row = trainer.step(real, alpha)
    return row, torch.cat([p.detach().flatten() for p in trainer.generator.parameters()])


@pytest.mark.parametrize("name", LOSS)
def test_loss(name):
    (_, base), (_, other) = stepped(ALL), stepped(replace(ALL, **{name: LOSS[name]}))
    assert not torch.equal(base, other)


# Training

TRAINING = dict(
    epochs=2,
    batch=3,
    optimiser="muon",
    learning_rate=1e-2,
    betas=(0.9, 0.99),
    weight_decay=0.5,
    warmup=2,
    decay=0.5,
    clip_generator=1e-3,
    clip_critics=1e-3,
    patience=1,
    critic_width=1 / 4,
    seed=1,
    shuffle=True,
    steps=2,
    precision="bf16",
    accumulate=2,
    ema=0.5,
    save_every=1,
    keep=1,
    reconstruct=0.0,
    partial=0.5,
    drop_skips=1.0,
    epoch_steps=2,
)
ELSEWHERE = {"compile", "skip_limit", "init", "workers"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare(MINI, folder / "data", DataConfig(train=102, valid=16, test=16, clip=64_000))
    return folder / "data"


def left(folder):
    "What a run leaves: its numbers, its validations, its checkpoints and the weights in them."
    logs = [(folder / f"{name}.jsonl").read_text() for name in ("metrics", "validation")]
    weights = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.glob("*/*/*.safetensors"))
    }
    return logs, weights


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    "What a run of a few steps leaves, by the settings that differ from `BASE`."
    kept = {}

    def run(**changes):
        key = json.dumps(changes)
        if key not in kept:
            out = tmp_path_factory.mktemp("run") / "run"
            training = replace(BASE, **{"reconstruct": 0.3, "epoch_steps": 1, **changes})
            train(data, out, TINY, LossConfig(), training)
            kept[key] = left(out)
        return kept[key]

    return run


@pytest.mark.parametrize("name", TRAINING)
def test_training(undisturbed, name):
    base = dict(patience=dict(learning_rate=1e-9), save_every=dict(epoch_steps=4, keep=9)).get(name, {})
    assert undisturbed(**base) != undisturbed(**base, **{name: TRAINING[name]})


def test_training_of_compiled_networks():
    assert isinstance(Trainer(TINY, LossConfig(), BASE).generate, MambaMuse)
    compiled = Trainer(TINY, LossConfig(), replace(BASE, compile=True)).generate
    assert type(compiled).__name__ == "OptimizedModule"


def test_training_counts_skipped_steps(data, tmp_path):
    model = MambaMuse(**asdict(TINY))
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(1e30)
    model.save_pretrained(tmp_path / "weights")
    hot = replace(BASE, init=str(tmp_path / "weights"), reconstruct=1.0)
    for limit in (1, 3):
        with pytest.raises(InputError, match=f"in {limit} steps in a row"):
            train(data, tmp_path / str(limit), TINY, LossConfig(), replace(hot, skip_limit=limit))


def test_training_begins_with_weights_and_reads_with_workers(data, tmp_path):
    MambaMuse(**asdict(TINY)).save_pretrained(tmp_path / "weights")
    for name, value in (("init", str(tmp_path / "weights")), ("workers", 2)):
        for config in (BASE, replace(BASE, **{name: value})):
            trainer = Trainer(TINY, LossConfig(), config)
            run = Run(tmp_path / "run", trainer, {}, range(8), range(2))
            assert ahead(run).num_workers == max(config.workers, 0)
    one, other = tmp_path / "one", tmp_path / "other"
    short = replace(BASE, steps=1, reconstruct=0.3)
    train(data, one, TINY, LossConfig(), short)
    train(data, other, TINY, LossConfig(), replace(short, init=str(tmp_path / "weights")))
    assert left(one) != left(other)


# All of them


def test_every_field_was_changed():
    changed = dict(
        data={*FROM_NOTES, *FROM_RECORDINGS, *DRAWN, *SOUNDFONTS},
        model=set(MODEL),
        loss=set(LOSS),
        training={*TRAINING, *ELSEWHERE},
    )
    made = recipe()
    for section in SECTIONS:
        assert changed[section] == {field.name for field in fields(getattr(made, section))}


@pytest.mark.parametrize("kind", USED)
def test_what_a_source_has_no_use_for_is_refused(kind):
    for name, why in idle_data(kind).items():
        value = json.dumps(getattr(DataConfig(), name.removeprefix("data.")))
        with pytest.raises(InputError, match="would change nothing"):
            recipe("as_run", "smoke", [f"{name}={value}"], kind)
        assert kind in why


@pytest.mark.parametrize(
    "given, idle_one",
    [
        (["loss.lambda_adversarial=0"], "training.critic_width=0.5"),
        (["loss.lambda_adversarial=0"], "training.clip_critics=1"),
        (["loss.lambda_mel=0"], "loss.mel_gradient=true"),
        (["training.reconstruct=0"], "loss.lambda_wave=1"),
        (["training.reconstruct=0", "training.partial=1"], "loss.lambda_features=1"),
        (["training.steps=3"], "training.epochs=3"),
        (["training.warmup=19"], "training.decay=0.9"),
        (["training.epochs=6"], "training.patience=6"),
        (["loss.lambda_stft=0"], "loss.stft_mels=0"),
        (["loss.stft_convergence=0"], "loss.stft_reference=real"),
        (["loss.stft_ffts=[1024]"], "loss.stft_reduction=sum"),
        (["loss.stft_ffts=[2048]"], "loss.stft_scaled=true"),
    ],
)
def test_what_would_change_nothing_is_refused(given, idle_one):
    with pytest.raises(InputError, match="would change nothing"):
        recipe("as_run", "smoke", [*given, idle_one])
    recipe("as_run", "smoke", given)
    recipe("as_run", "smoke", [idle_one])
    assert idle_one.partition("=")[0] in idle(recipe("as_run", "smoke", given))


def test_data_that_are_there_are_not_relabelled(data, tmp_path):
    "`data.*` beside data that are prepared: the same value is taken, another one refused."
    short = ["model.widths=[2,2,2,2]", "training.batch=2", "training.steps=1", "data.clip=64000"]
    train_recipe(tmp_path / "a", overrides=short, data=data)
    with pytest.raises(InputError, match=r"data.clip is 8000, but .* was prepared with 64000"):
        train_recipe(tmp_path / "b", overrides=[*short[:3], "data.clip=8000"], data=data)
    with pytest.raises(InputError, match="training.batch is 104, expected at most data.train, 102"):
        train_recipe(tmp_path / "b", overrides=["training.batch=104"], data=data)
    own = [*short[:3], "data.train=7", "data.valid=2", "data.test=1", "data.clip=4112"]
    train_recipe(tmp_path / "c", overrides=own)
    with pytest.raises(InputError, match=r"data.seed is 1, but .* was prepared with 42"):
        train_recipe(tmp_path / "c", overrides=[*own, "data.seed=1"], resume=True)


WRONG = """
data.clip=-1 data.train=0 data.silence=nan data.silence=3 data.held=1.5 data.short=cut
data.seed=-1 data.velocity_over=200 data.drop_sources=['electric'] data.latest_start=0
model.widths=[3,4,8,16] model.widths=[8,16] model.axis=time model.alphas=[1,1] model.sets=9
model.bypass=1 loss.lambda_mel=-45 loss.mel_bands=0 loss.stft_reference=foo loss.stft_floor=0
loss.stft_ffts=[] loss.stft_ffts=[100] loss.mel_floor=-1 training.learning_rate=-1
training.learning_rate=inf training.betas=[2,3] training.betas=[0.9] training.decay=5
training.seed=-1 training.ema=1 training.precision=fp8 training.optimiser=sgd
training.workers=-2 training.reconstruct=2 training.critic_width=0.3 training.patience=0
training.seed=4294967296 data.seed=4294967296 training.learning_rate=1e308 training.weight_decay=1e308
model.sets=true model.sets=1.0 training.accumulate=3 training.batch=97 loss.stft_ffts=[16384]
loss.mel_ffts=[8192] data.drop_sources=["acoustic","acoustic"]
data.drop_sources=["acoustic","electronic","synthetic"]
""".split()
WRONG += [
    "training.epochs=3 # four",
    "training.epochs=3, value2=4",
    "training.epochs=3\nx = 4",
    "data.seed=" + 5_000 * "9",
    "data.seed=0x" + 5_000 * "f",
    "model.widths=" + 3_000 * "[",
]


@pytest.mark.parametrize("text", WRONG, ids=[text[:40] for text in WRONG])
def test_what_cannot_be_is_refused_in_one_line(text):
    with pytest.raises(InputError) as refused:
        recipe("as_run", "smoke", [text])
    line = str(refused.value)
    assert line.isprintable() and len(line) < 250 and text.partition("=")[0].partition(".")[2] in line


@pytest.mark.parametrize("overrides", [None, 3, "training.epochs=3", [3], [None]])
def test_overrides_are_a_list_of_texts(overrides):
    with pytest.raises(InputError, match="such as"):
        recipe(overrides=overrides)


def test_the_order_of_overrides_does_not_matter():
    given = ["training.partial=0.7", "training.reconstruct=0.3", "model.sets=2", "model.axis=clip"]
    assert recipe(overrides=given) == recipe(overrides=given[::-1])


def test_a_field_is_given_once(mambamuse, tmp_path):
    for words in (
        ("recipe", "training.epochs=3", "training.epochs=4"),
        ("train", "--out", "run", "--seed", "3", "training.seed=3"),
        ("prepare", "--train", "3", "data.train=3"),
    ):
        code, _, err = mambamuse(*words, cwd=tmp_path)
        name = words[-1].partition("=")[0]
        assert code == 2 and err.startswith(f"mambamuse: {name} is given ") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("section", SECTIONS)
def test_every_number_has_two_limits_and_they_are_told(section):
    for name, _, words, *_ in explained(getattr(recipe(), section)):
        for part in re.findall("(?:whole )?number[^)]*", words):
            assert re.search(r" (above|from) -?[\d.,]+ (below|to) [\d.,]+", part), (name, part)


def test_the_longest_window_of_a_clip_trains_and_the_next_does_not():
    "Of the STFT loss it is twice as long, since that looks beyond both ends of a clip."
    sound = torch.randn(1, 1, 4_112)
    for name, window in (("stft_ffts", 8_192), ("mel_ffts", 4_096)):
        losses = SpectralLosses(replace(LossConfig(), **{name: (window,)}))
        assert all(loss.isfinite() for loss in losses(sound, sound / 2))
        recipe(overrides=["data.clip=4112", f"loss.{name}=[{window}]"])
        with pytest.raises(RuntimeError):
            SpectralLosses(replace(LossConfig(), **{name: (2 * window,)}))(sound, sound / 2)
        with pytest.raises(InputError, match=f"loss.{name} has a window of {2 * window:,} samples"):
            recipe(overrides=["data.clip=4112", f"loss.{name}=[{2 * window}]"])


def test_a_frame_of_the_level_is_at_most_a_clip():
    sound, given = torch.randn(1, 1, 4_112), ["data.clip=4112", "loss.lambda_level=1"]
    assert LevelLoss(frame=4_112)(sound, sound / 10) == pytest.approx(20, abs=1e-3)
    recipe(overrides=[*given, "loss.level_frame=4112"])
    with pytest.raises(RuntimeError):
        LevelLoss(frame=4_113)(sound, sound / 10)
    with pytest.raises(InputError, match="loss.level_frame has a window of 4,113 samples"):
        recipe(overrides=[*given, "loss.level_frame=4113"])
    with pytest.raises(InputError, match="loss.level_frame would change nothing: loss.lambda_level is 0"):
        recipe(overrides=["loss.level_frame=4112"])


@pytest.mark.parametrize("window", [64, 256, 1_024])
def test_no_mel_band_of_the_stft_loss_is_empty(window):
    sound = torch.randn(1, 1, 4_112)
    most = 3 * window // 8 - 1
    losses = SpectralLosses(LossConfig(stft_ffts=(window,), stft_mels=most))
    assert all(loss.isfinite() for loss in losses(sound, sound / 2))
    one = STFTDistance(window, window // 4, most + 3)
    assert not one(*(one.magnitude(x) for x in (sound, sound / 2))).isfinite()
    with pytest.raises(InputError, match=f"stft_mels is {most + 1}, expected fewer than 3/8"):
        LossConfig(stft_ffts=(window,), stft_mels=most + 1)


@pytest.mark.parametrize(
    "loss, training",
    [
        (LossConfig(), replace(BASE, init="nowhere")),
        (LossConfig(), replace(BASE, batch=104)),
        (LossConfig(mel_ffts=(65_536,)), BASE),
    ],
)
def test_a_refused_training_leaves_nothing(data, tmp_path, loss, training):
    with pytest.raises(InputError):
        train(data, tmp_path / "a" / "run", TINY, loss, training)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "override", ["training.init=nowhere", "training.batch=97", "data.velocity_over=126", "data.train=120"]
)
def test_a_refused_recipe_leaves_nothing(tmp_path, override):
    with pytest.raises(InputError):
        train_recipe(tmp_path / "a" / "run", overrides=[override])
    assert not list(tmp_path.iterdir())


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(InputError, match="nothing to learn from"):
        recipe("as_run", "smoke", ["loss.lambda_stft=0", "loss.lambda_adversarial=0"])


def test_a_misspelt_field_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean learning_rate?"):
        recipe("as_run", "smoke", ["training.learning_rat=1"])


def test_every_field_is_explained():
    lines = explain("paired", "half", ["training.epochs=3"])
    assert len(lines) == sum(len(fields(getattr(recipe(), section))) for section in SECTIONS)
    (epochs,) = (line for line in lines if " training.epochs " in line)
    assert (
        epochs.endswith("set by you, over size half") and "whole number from 1" in epochs and "IV.A" in epochs
    )
