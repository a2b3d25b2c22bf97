"""The exported file is the model: for every block, length, width and axis, in plain ONNX Runtime; and a
transfer is the same file offline, streamed and exported.
"""

import json
import subprocess
import sys
from time import sleep
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from test_streaming import (
    EVERYWHERE,
    NARROW,
    allowed,
    gusts,
    in_blocks,
    noise,
    plain_style,
    rounding,
    shaken,
    whole,
)

from mambamuse.errors import InputError
from mambamuse.judge.pairs import shipped_pairs
from mambamuse.model.generator import MambaMuse
from mambamuse.model.places import PLACES
from mambamuse.model.weights import load_model, pad
from mambamuse.sound.audio import load, normalise, save
from mambamuse.use import export, stages
from mambamuse.use.export import (
    Graph,
    OnnxStream,
    Signal,
    Step,
    channels,
    drawn,
    export_folder,
    export_step,
    flat,
    stage_models,
    step_model,
    style_model,
)
from mambamuse.use.files import transfer_file
from mambamuse.use.levels import extended_length, fade_ends, hold_start
from mambamuse.use.live import WARM_UP, Live, live_file, live_step
from mambamuse.use.step import CARRIED, Carried
from mambamuse.use.streaming import Running, Stream, restyled_to, signature
from mambamuse.use.style import Style, style_of
from mambamuse.use.tone import RunningTone

HALF = (16, 32, 64, 128)


def made(model, block=64, alphas=EVERYWHERE):
    return step_model(model, block, alphas).SerializeToString()


def clip(seed=0, folder=None, **kw):
    torch.manual_seed(seed)
    model = shaken(MambaMuse(**dict(widths=NARROW, axis="clip") | kw))
    if folder:
        model.save_pretrained(folder)
    return model.for_inference()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bypass", [True, False])
def test_reconstruction_equals_the_model(seed, bypass):
    rng, model = np.random.default_rng(seed), clip(seed, bypass=bypass)
    x = noise(rng, 3_000 + 7 * seed)
    assert (
        abs(
            in_blocks(OnnxStream(made(model, (16, 48, 128, 256)[seed], (0,) * 9)), x, 700, rng)
            - whole(model, x)[: len(x)]
        ).max()
        <= 1e-5
    )


@pytest.mark.parametrize("time", [1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 300])
def test_short_sounds(time):
    "Shorter than a block, a block to the sample, one more."
    rng, model = np.random.default_rng(time), clip()
    x = noise(rng, time)
    y = in_blocks(OnnxStream(made(model)), x, 50, rng)
    assert y.shape == x.shape and abs(y - whole(model, x)[:time]).max() <= 1e-5


@pytest.mark.parametrize("alphas", [EVERYWHERE, (1, 1, 1, 0.5, 0.2), (0, 0, 0, 0, 0, 0, 0, 0.5, 0)])
@pytest.mark.parametrize("bypass, sets", [(True, 1), (False, 1), (False, 2), (True, 3)])
def test_fixed_statistics_equal_the_models_own_transfer(alphas, bypass, sets):
    rng, model = np.random.default_rng(0), clip(bypass=bypass, sets=sets)
    x, style = gusts(rng, 2_501), gusts(rng, 2_001)
    with torch.inference_mode():
        known = restyled_to(model, pad(torch.from_numpy(x)[None, None]), signature(model, style), alphas)[1]
    want = whole(model, x, style, alphas)[: len(x)]
    assert abs(want - whole(model, x)[: len(x)]).max() > 1e-3  # AdaIN did something
    assert (
        abs(
            in_blocks(OnnxStream(made(model, 64, alphas), signature(model, style), None, known), x, 500, rng)
            - want
        ).max()
        <= 1e-5
    )


@pytest.mark.parametrize(
    "content, alphas",
    [
        (None, EVERYWHERE),
        (Running(half_life=0.05), EVERYWHERE),
        (Running(warm_up=0), (1.0,) * 9),
        (Running(half_life=1.0, warm_up=2.0), (0, 1, 0, 1, 0, 1, 0, 1, 0)),
        (None, (0.0,) * 9),
    ],
)
@pytest.mark.parametrize("sets", [1, 2, 4])
def test_running_statistics_equal_the_streams(content, alphas, sets):
    "One file with AdaIN everywhere, alphas given by the host; two channels, which do not mix."
    rng, model = np.random.default_rng(0), clip(sets=sets)
    x, style = gusts(rng, 2, 4_001), signature(model, gusts(rng, 2_001))
    got = in_blocks(OnnxStream(made(model), style, alphas, content), x, 900, rng)
    assert abs(got - in_blocks(Stream(model, style, alphas, content), x, 900, rng)).max() <= 1e-5


@pytest.mark.parametrize("sets", [1, 4])
@pytest.mark.parametrize("content", [Running(), Running(half_life=0.05, warm_up=0)])
def test_silence_before_between_and_after(sets, content):
    "In silence features stand still: what is counted forgets the sound, and a deviation is next to nothing."
    rng, model = np.random.default_rng(0), clip(sets=sets)
    sound, silence = gusts(rng, 4_000), np.zeros(6_000, np.float32)
    x, style = np.concatenate([silence, sound, silence, sound]), signature(model, gusts(rng, 2_001))
    got = in_blocks(OnnxStream(made(model, 256), style, EVERYWHERE, content), x, 900, rng)
    want = in_blocks(Stream(model, style, EVERYWHERE, content), x, 900, rng)
    assert np.isfinite(got).all() and abs(got - want).max() <= 2e-5


@pytest.mark.parametrize("alphas", [EVERYWHERE, (1, 1, 1, 0.5, 0.2), (1, 0, 1, 0, 0, 0, 1, 0, 0)])
def test_frame_axis_equals_the_models_own_transfer(alphas):
    rng, model = np.random.default_rng(0), clip(axis="frame")
    x, style = noise(rng, 2_501), noise(rng, 2_001)  # the style is repeated
    bound = 1e-5 + 2 * rounding(model, x, style, alphas)
    assert (
        abs(
            in_blocks(OnnxStream(made(model, 64, alphas), style), x, 500, rng)
            - whole(model, x, style, alphas)[: len(x)]
        ).max()
        <= bound
        < 1e-4
    )


@pytest.mark.parametrize("widths, block", [((32, 64, 128, 256), 256), (HALF, 128)])
def test_real_widths_equal_the_model(widths, block):
    "The released ones; and half of them, without bypass."
    rng, model = np.random.default_rng(0), clip(widths=widths, bypass=widths != HALF, alphas=EVERYWHERE)
    x, style = noise(rng, 3_000), signature(model, noise(rng, 2_000))
    assert (
        abs(
            in_blocks(OnnxStream(made(model, block, None), style), x, 3_000, rng)
            - in_blocks(Stream(model, style), x, 3_000, rng)
        ).max()
        <= 1e-5
    )


def test_a_step_is_late_by_its_delay_and_start_forgets():
    rng, model = np.random.default_rng(0), clip()
    style, x = signature(model, noise(rng, 2_000)), noise(rng, 1_280)
    step = Step(made(model), style)

    def run():
        return np.concatenate([step(samples) for samples in x.reshape(-1, 64)])

    first, went_on = run(), run()
    assert step.delay == 274 and step.position == 2 * 1_280
    assert np.array_equal(step.start() and run(), first) and abs(went_on - first).max() > 1e-3
    assert abs(first[274:] - Stream(model, style, EVERYWHERE).push(x)[: 1_280 - 274]).max() <= 1e-5


def test_what_follows_the_end_does_not_matter():
    rng, model = np.random.default_rng(0), clip()
    x, outs = noise(rng, 640), []
    for after in (0, 1):
        step = Step(made(model))
        outs.append(
            np.concatenate(
                [
                    step(samples, 160)
                    for samples in (
                        np.where(np.arange(640) < 160, x, after * x).astype(np.float32).reshape(-1, 64)
                    )
                ]
            )
        )
    assert np.array_equal(outs[0][: 274 + 160], outs[1][: 274 + 160])


def test_a_style_can_change_between_blocks():
    """The block after a change is what it had been with the new style all along, when the content's
    statistics do not depend on it.
    """
    rng, model = np.random.default_rng(0), clip()
    file, x, (a, b) = (
        made(model, alphas=(1, 1, 1, 1, 0)),
        noise(rng, 64 * 40),
        (flat(signature(model, noise(rng, 2_000) * level), channels(model)) for level in (0.1, 1)),
    )
    step, outs = Step(file, signature(model, noise(rng, 2_000))), {}
    for name, styles in (("a", [a] * 40), ("b", [b] * 40), ("ab", [a] * 20 + [b] * 20)):
        step.start()
        outs[name] = np.concatenate(
            [step(samples) for samples, step.knobs["style"] in zip(x.reshape(-1, 64), styles)]
        )
    assert np.array_equal(outs["ab"][: 64 * 20], outs["a"][: 64 * 20]) and not np.array_equal(
        outs["ab"][64 * 20 : 64 * 21], outs["a"][64 * 20 : 64 * 21]
    )
    assert abs(outs["a"][-64:] - outs["b"][-64:]).max() > 1e-3


def test_the_file_speaks_for_itself(tmp_path):
    model = clip(alphas=EVERYWHERE)
    file = export_step(model, tmp_path / "m.onnx", 128)
    onnx.checker.check_model(file, full_check=True)
    about = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert (about["block"], about["delay"], about["sample_rate"], about["weights"], about["axis"]) == (
        "128",
        "274",
        "16000",
        model.fingerprint(),
        "clip",
    )
    assert json.loads(about["places"]) == dict(zip(PLACES, (32, 32, 16, 8, 4, 16, 8, 4, 2))) and json.loads(
        about["alphas"]
    ) == list(EVERYWHERE)
    assert {n.domain for n in onnx.load(file).graph.node} == {""}  # the standard's operators only


HOST = """
import sys
import numpy as np
import onnxruntime
file, sound, style, out = sys.argv[1:]
session, x, style = onnxruntime.InferenceSession(file), np.load(sound), np.load(style)
about = session.get_modelmeta().custom_metadata_map
block, delay, shapes = int(about["block"]), int(about["delay"]), {i.name: i.shape for i in session.get_inputs()}
feeds = dict(state=np.zeros(shapes["state"], np.float32), sums=np.zeros(shapes["sums"]), style=style, content=style, alphas=np.full(9, .7, np.float32), warm_up=np.array(.5), half_life=np.array(np.inf))
feeds["length"], n = np.array(-(-len(x)//16)*16), len(x)
x, y = np.pad(x, (0, delay + -(n + delay) % block)), []
for position in range(0, len(x), block):
    new, feeds["state"], feeds["sums"] = session.run(["out", "new_state", "new_sums"], feeds | dict(block=x[position:position + block], position=np.array(position)))
    y.append(new)
np.save(out, np.concatenate(y)[delay:delay + n])
assert not any(name.split(".")[0] in ("torch", "mambamuse") for name in sys.modules)
"""


def test_a_host_needs_numpy_and_onnxruntime_only(tmp_path):
    rng, model = np.random.default_rng(0), clip(bypass=False)
    x, style = noise(rng, 3_003), signature(model, noise(rng, 2_000))
    (
        export_step(model, tmp_path / "m.onnx", 128, (1.0,) * 9),
        np.save(tmp_path / "x.npy", x),
        np.save(tmp_path / "s.npy", flat(style, channels(model))),
    )
    subprocess.run(
        [sys.executable, "-c", HOST, *(tmp_path / name for name in ("m.onnx", "x.npy", "s.npy", "y.npy"))],
        check=True,
    )
    assert (
        abs(np.load(tmp_path / "y.npy") - in_blocks(Stream(model, style, (0.7,) * 9), x, 3_003, rng)).max()
        <= 1e-5
    )


@pytest.fixture(scope="module", params=[(True, 1), (False, 2), (False, 4)], ids=str)
def folder(request, tmp_path_factory):
    "A model with AdaIN everywhere, its weights and its exported files."
    d = tmp_path_factory.mktemp("exported")
    bypass, sets = request.param
    model = clip(folder=d / "w", bypass=bypass, alphas=tuple(map(float, EVERYWHERE)), sets=sets, tone=0.6)
    export_folder(model, d / "onnx", 64)
    return model, d


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("piece, time", [(512, 1_501), (1_536, 5_003), (2**14, 5_003)])
def test_the_exported_stages_are_the_model(folder, monkeypatch, piece, time, channels):
    "In pieces of any number of blocks."
    monkeypatch.setattr(stages, "PIECE", piece)
    (model, d), rng = folder, np.random.default_rng(piece)
    x, style = gusts(rng, channels, time), plain_style(model, gusts(rng, 2_001))
    got, want = (
        stages.restyled(network, x, style, 0.9) for network in (Carried(d / "onnx"), model.network())
    )
    assert abs(want).max() > 0.1 and abs(got - want).max() <= allowed(model, x, style, 0.9) < 1e-3


@pytest.mark.parametrize("time", [1, 2, 100, 1_023, 1_024, 5_000, 50_001])
def test_the_exported_measure_is_the_model(folder, time):
    "By stages, and from PyTorch's own features."
    (model, d), sound = folder, gusts(np.random.default_rng(time), time)
    got, want = Carried(d / "onnx").measure(sound), plain_style(model, sound)
    for other in (want, stages.measured_style(model.network(), sound)):
        assert np.allclose(got, other, rtol=1e-5, atol=1e-5)


def test_a_file_through_the_exported_folder_is_the_same_file(folder, tmp_path):
    "To one step of 16 bits, which is each file's own rounding; with a style file of either."
    (model, d), rng = folder, np.random.default_rng(0)
    (
        save(tmp_path / "x.wav", noise(rng, 2, 20_003) * 0.7, 22_050),
        save(tmp_path / "y.wav", noise(rng, 9_000), 16_000),
    )
    Style.of(model, tmp_path / "y.wav").save(tmp_path / "y.style")
    made = [
        load(
            transfer_file(
                tmp_path / "x.wav", tmp_path / style, tmp_path / f"{weights}-{style}.wav", weights=d / weights
            )
        )[0]
        for weights in ("w", "onnx")
        for style in ("y.wav", "y.style")
    ]
    assert made[0].shape == (2, 20_003) and all(
        abs(other - made[0]).max() <= 2**-15 + 1e-5 for other in made[1:]
    )


def test_the_files_in_the_package_are_those_of_its_weights(tmp_path):
    "Byte for byte; where another version of onnx writes other bytes, the same inputs, outputs and about."
    made = export_folder(load_model(), tmp_path / "onnx")
    assert sorted(file.name for file in made.iterdir()) == sorted(file.name for file in CARRIED.iterdir())
    assert (made / "about.json").read_text() == (CARRIED / "about.json").read_text()
    networks, rng = (Carried(made), Carried()), np.random.default_rng(0)
    if all(file.read_bytes() == (CARRIED / file.name).read_bytes() for file in made.iterdir()):
        return
    x = noise(rng, 1, 8_000)
    style, other = (stages.measured_style(network, x[0, :3_000]) for network in networks)
    assert abs(style - other).max() <= 1e-6
    assert abs(np.subtract(*(stages.restyled(network, x, style, 1.0) for network in networks))).max() <= 1e-6
    assert (
        abs(
            np.subtract(
                *(
                    np.concatenate(
                        [Step(network.step(), style)(block) for block in x.reshape(-1, 400)[:, :256]]
                    )
                    for network in networks
                )
            )
        ).max()
        <= 1e-6
    )


def older(folder, about, **changes):
    "The exported `folder`, as it would be with the entries `changes` in `about.json` in place of its own."
    known = {key: value for key, value in (about | changes).items() if value is not None}
    (folder / "about.json").write_text(json.dumps(known))


def test_a_folder_that_knows_nothing_of_sets_has_one(tmp_path):
    "Those that were exported before there were several; what is no folder is said in one line."
    model = MambaMuse(widths=NARROW, axis="clip").for_inference()
    folder = export_folder(model, tmp_path / "old")
    about, x = json.loads((folder / "about.json").read_text()), noise(np.random.default_rng(0), 3_000)
    step = onnx.load(folder / "step-256.onnx")
    del step.metadata_props[[entry.key for entry in step.metadata_props].index("sets")]
    style, new = stages.measured_style(Carried(folder), x), Carried(folder)
    older(folder, about, sets=None, tone=None)
    old = Carried(folder)
    assert old.tone == 0 and old.sets == 1 == Step(step.SerializeToString(), style).sets
    assert np.array_equal(*(stages.restyled(network, x[None], style, 1.0) for network in (old, new)))
    older(folder, about, places=None)
    with pytest.raises(InputError, match="old: its about.json is not what mambamuse export writes"):
        Carried(folder)
    for text in (b"{", b"[]", b"", b"\xff\xfe\x00", 100_000 * b"["):
        (folder / "about.json").write_bytes(text)
        with pytest.raises(InputError, match="old: its about.json is not what mambamuse export writes"):
            Carried(folder)


@pytest.mark.parametrize("time", [20_917, 24_517, 16_000])
def test_stages_give_all_that_comes_in(monkeypatch, time):
    """To the last step, though nothing follows the last piece: what a shelf in a file has not been given,
    cannot be read.
    """
    network, x = Carried(), noise(np.random.default_rng(time), 1, time).astype(np.float32)
    length = extended_length(time)
    stage, given = network.stage(0, length), np.zeros((length, 1), np.float32)
    pieces = [stage(given[start : start + stages.PIECE]) for start in range(0, length, stages.PIECE)]
    assert [sum(map(len, parts)) for parts in zip(*pieces)] == [length // rate for rate in stage.rates]
    style = stages.measured_style(network, x[0, :8_000])
    in_memory = stages.restyled(network, x, style, 1.0)
    monkeypatch.setattr(stages, "IN_MEMORY", 2**12)
    assert np.array_equal(stages.restyled(network, x, style, 1.0), in_memory)


def test_a_shelf_in_a_file_begins_with_zeros(monkeypatch):
    monkeypatch.setattr(stages, "IN_MEMORY", 8)
    shelf = stages.Shelf(5, 2)
    shelf[0:2] = np.ones((2, 2))
    assert shelf.file and shelf[:].tolist() == 2 * [[1, 1]] + 3 * [[0, 0]]


def test_a_row_that_ends_with_an_error_ends_the_others():
    ended = []

    def work(row, goes_on):
        if not row:
            raise KeyboardInterrupt
        while goes_on():
            sleep(0.001)
        ended.append(row)

    with pytest.raises(KeyboardInterrupt):
        stages.in_parallel(SimpleNamespace(uses_all_cores=False), work, [(0,), (1,)])
    assert ended == [1]


@pytest.mark.parametrize(
    "damage",
    [
        *(dict(alphas=alphas) for alphas in (9 * [np.nan], 9 * [5], [1], "abc", {}, None)),
        *(dict(places=places) for places in ([], dict.fromkeys(PLACES, -1), dict.fromkeys(PLACES, 10**12))),
        dict(sets=0),
        *(dict(tone=tone) for tone in (-0.1, 1.1, np.nan, "half", "0.5", True, [])),
    ],
)
def test_a_folder_with_damaged_words_is_refused(tmp_path, damage):
    folder = export_folder(clip(), tmp_path / "out")
    older(folder, json.loads((folder / "about.json").read_text()), **damage)
    with pytest.raises(InputError, match="out: its about.json is not what mambamuse export writes"):
        Carried(folder)


def test_a_stage_of_another_network_is_refused(tmp_path):
    "Its file was swapped, or the words beside it are those of another."
    folder = export_folder(clip(), tmp_path / "out")
    about = json.loads((folder / "about.json").read_text())
    for other in (dict(sets=2), dict(places=dict.fromkeys(PLACES, 3))):
        older(folder, about, **other)
        with pytest.raises(InputError, match="stage-0.onnx is not of the network in about.json"):
            Carried(folder).stage(0, 4_096)
    older(folder, about)
    (folder / "stage-0.onnx").write_bytes((folder / "stage-4.onnx").read_bytes())
    with pytest.raises(InputError, match="stage-0.onnx is not of the network in about.json"):
        Carried(folder).stage(0, 4_096)
    assert Carried(folder).stage(4, 4_096).block


def test_live_plays_no_step_of_other_weights(tmp_path):
    "One that lies in the folder from an export before; and says so where there is none."
    for seed, block in ((0, 64), (1, 128)):
        torch.manual_seed(seed)
        folder = export_folder(MambaMuse(widths=NARROW, axis="clip", sets=2), tmp_path / "two", block)
    style = noise(np.random.default_rng(0), 3_000)
    assert live_step(style, 1.0, 128, False, folder).block == 128
    with pytest.raises(InputError, match="two: its step for blocks of 64 samples was exported with weights"):
        live_step(style, 1.0, 64, False, folder)
    with pytest.raises(InputError, match="two: there is no step for blocks of 256 samples in it"):
        live_step(style, 1.0, 256, False, folder)


@pytest.mark.parametrize("wrong", [1, 3, "mixed"])
def test_a_step_refuses_statistics_of_other_sets(wrong):
    model = MambaMuse(widths=NARROW, axis="clip", sets=2)
    own = Style.of(model, noise(np.random.default_rng(0), 3_000))
    statistics = own.statistics[:2] if wrong == 1 else np.concatenate([own.statistics] * 2)[:6]
    mixed = [(mean[:1], deviation[:1]) for mean, deviation in own.pairs()[:3]] + own.pairs()[3:]
    with pytest.raises(InputError, match="statistics of . x .*have 2 x|pair .* as many sets"):
        Step(made(model), mixed if wrong == "mixed" else statistics)


@pytest.mark.parametrize("kind", ["phrases", "notes"])
def test_the_package_without_pytorch_is_the_package_with_it(kind):
    "A pair of each test set, a second of it: the style, and the output."
    pair, model = shipped_pairs(kind).iloc[0], load_model()
    content, style = (normalise(load(pair[role])[0])[0][:, :16_000] for role in ("content", "style"))
    networks = Carried(), model.network()
    styles = [stages.measured_style(network, style[0]) for network in networks]
    assert np.allclose(*styles, rtol=1e-5, atol=1e-5)
    assert (
        abs(np.subtract(*(stages.restyled(network, content, styles[0], 1.0) for network in networks))).max()
        <= 1e-5
    )


@pytest.mark.parametrize("keep_level", [True, False])
def test_live_writes_what_the_blocks_are(folder, tmp_path, keep_level):
    """In line with the content and as long: the delay is cut off, the ends are faded. At a constant level it
    is the stream's own sound.
    """
    (model, d), rng = folder, np.random.default_rng(0)
    (
        save(tmp_path / "x.wav", noise(rng, 5_001) * 0.7, 16_000),
        save(tmp_path / "y.wav", noise(rng, 9_000), 16_000),
    )
    said = live_file(
        tmp_path / "x.wav", tmp_path / "y.wav", tmp_path / "out.wav", 512, 0.6, keep_level, d / "w"
    )
    x, (style, tone) = load(tmp_path / "x.wav")[0][0], style_of(tmp_path / "y.wav", model.network())
    step = Step(made(model, 512), style, [0.6 * a for a in EVERYWHERE], Running(warm_up=WARM_UP))
    live = Live(step, 0.6, keep_level, tone=RunningTone(tone, 0.6 * model.tone))
    assert live.delay == 274 + 15
    late = np.concatenate(
        [
            live(block)
            for block in (
                np.concatenate(
                    [x, x[-2:-1_026:-1] * (0.5 + 0.5 * np.cos(np.pi * np.arange(1, 1_025) / 1_024))]
                )[: 11 * 512]
                .astype(np.float32)
                .reshape(-1, 512)
            )
        ]
    )
    got, want = (
        load(tmp_path / "out.wav")[0][0],
        hold_start(fade_ends(late[None, 289 : 289 + 5_001], 0, 5_001), x[None])[0],
    )
    assert (
        said["blocks"] == 11
        and got.shape == want.shape
        and abs(want).max() > 0.05
        and abs(got - want).max() <= 2**-15 + 5e-6  # a step of 16 bits; and compiled, not exported
    )


def foreign():
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "abs", [x], [y])
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()


@pytest.mark.parametrize("export", [stage_models, style_model])
def test_the_frame_axis_has_no_stages_to_export(export):
    with pytest.raises(InputError, match="axis frame"):
        export(clip(axis="frame"))


def test_a_module_without_drawing_is_refused():
    with pytest.raises(TypeError, match="LSTM"):
        drawn(torch.nn.LSTM(3, 3), Graph(64), Signal("x", 1, 3))


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda d, f, m: step_model(m, 100), "multiple of 16"),
        (lambda d, f, m: step_model(m, 2_048), "at most 1,024"),
        (lambda d, f, m: step_model(m, 0), "multiple of 16"),
        (lambda d, f, m: export_step(m, d / "m.pt"), "is a .onnx"),
        (lambda d, f, m: export_step(m, d / "no" / "m.onnx"), "folder"),
        (lambda d, f, m: Step(d / "absent.onnx"), "no such file"),
        (lambda d, f, m: Step(b"not a graph"), "cannot read"),
        (lambda d, f, m: Step(foreign()), "not a file that mambamuse"),
        (lambda d, f, m: Step(f)(np.zeros(128)), r"\(64,\)"),
        (lambda d, f, m: Step(f)(np.full(64, np.nan)), "NaN"),
        (lambda d, f, m: Step(f, np.zeros(500)), "statistics"),
        (
            lambda d, f, m: Step(
                made(m, 64, (1, 0, 0, 0, 0)), signature(m, np.ones(500, np.float32)), (1, 0, 1, 0, 0)
            ),
            "no AdaIN at skip128",
        ),
        (
            lambda d, f, m: Step(f, signature(MambaMuse(widths=HALF, axis="clip"), np.ones(500, np.float32))),
            "488 channels",
        ),
        (lambda d, f, m: Step(made(clip(axis="frame")), np.ones(50), None, Running()), "clip axis"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, bad, message):
    model = clip()
    with pytest.raises(InputError, match=message):
        bad(tmp_path, made(model), model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("draw", [step_model, stage_models, style_model])
def test_other_precisions_are_refused(draw):
    with pytest.raises(InputError, match=r"torch.float64, and a file's are float32: give model.float\(\)"):
        draw(clip().double())


def test_an_interrupted_export_is_no_network_and_may_be_made_again(tmp_path, monkeypatch, mambamuse):
    "Not half of an older one and half of the newer."
    clip(folder=tmp_path / "w", bypass=False, alphas=EVERYWHERE)
    folder, write, written = export_folder(clip(), tmp_path / "out", 64), export.written_beside, []

    def interrupted(path):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        return write(path)

    monkeypatch.setattr(export, "written_beside", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_folder(clip(bypass=False), folder, 64)
    monkeypatch.undo()
    with pytest.raises(InputError, match="no exported network, there is no about.json in it"):
        Carried(folder)
    sound = tmp_path / "sound.wav"
    save(sound, np.ones(1_000), 16_000)
    code, _, error = mambamuse("transfer", sound, sound, "-o", tmp_path / "y.wav", "--weights", folder)
    assert code == 2 and "out: an export that was interrupted; run mambamuse export again" in error
    code, _, _ = mambamuse("export", folder, "--weights", tmp_path / "w")
    assert code == 0 and Carried(folder).weights == load_model(tmp_path / "w").fingerprint()
    code, _, error = mambamuse("export", folder, "--weights", tmp_path / "w")
    assert code == 2 and "out: there are files in it; name another folder, or add --force" in error
    code, _, error = mambamuse("export", folder, "--weights", tmp_path / "w", "--force")
    assert code == 0 and not error


def test_the_command(tmp_path, mambamuse):
    clip(folder=tmp_path / "w", bypass=False, alphas=EVERYWHERE)
    code, said, _ = mambamuse("export", tmp_path / "m.onnx", "--block", 128, "--weights", tmp_path / "w")
    assert code == 0 and json.loads(said)["delay"] == 274 and Step(tmp_path / "m.onnx").block == 128
    code, _, error = mambamuse("export", tmp_path / "m.onnx", "--weights", tmp_path / "w")
    assert code == 2 and "m.onnx: exists; name another file to write" in error
    code, _, error = mambamuse("export", tmp_path, "--weights", tmp_path / "w")
    assert code == 2 and "there are files in it" in error
    code, _, error = mambamuse(
        "export", tmp_path / "m.onnx", "--block", 100, "--weights", tmp_path / "w", "--force"
    )
    assert code == 2 and "multiple of 16" in error and error.count("\n") == 1
    code, _, error = mambamuse("export", "/proc/m.onnx", "--weights", tmp_path / "w")
    assert code == 2 and "/proc/m.onnx: cannot be written (No such file or directory)" in error
