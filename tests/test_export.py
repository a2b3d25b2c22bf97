"""The exported file is the model: for every block, length, width and axis, in plain ONNX Runtime; and a transfer is the same file offline, streamed and exported."""
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from test_streaming import EVERYWHERE, NARROW, in_blocks, noise, rounding, shaken, whole

from mambamuse.places import PLACES
from mambamuse.audio import InputError, load, save
from mambamuse.export import Graph, OnnxStream, Signal, Step, channels, drawn, export_step, flat, step_model
from mambamuse.generator import MambaMuse
from mambamuse.live import live_file, stream_file
from mambamuse.streaming import Running, Stream, restyled, signature
from mambamuse.style import Style, fingerprint
from mambamuse.pretrained import pad, transfer_file

HALF = (16, 32, 64, 128)


def made(model, block=64, alphas=EVERYWHERE): return step_model(model, block, alphas).SerializeToString()


def clip(seed=0, folder=None, **kw):
    torch.manual_seed(seed)
    model = shaken(MambaMuse(**dict(widths=NARROW, axis="clip") | kw))
    if folder: model.save_pretrained(folder)
    return model.for_inference()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bypass", [True, False])
def test_reconstruction_equals_the_model(seed, bypass):
    rng, model = np.random.default_rng(seed), clip(seed, bypass=bypass)
    x = noise(rng, 3_000 + 7*seed)
    assert abs(in_blocks(OnnxStream(made(model, (16, 48, 128, 256)[seed], (0,)*9)), x, 700, rng) - whole(model, x)[:len(x)]).max() <= 1e-5


@pytest.mark.parametrize("time", [1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 300])
def test_short_sounds(time):
    "Shorter than a block, a block to the sample, one more."
    rng, model = np.random.default_rng(time), clip()
    x = noise(rng, time)
    y = in_blocks(OnnxStream(made(model)), x, 50, rng)
    assert y.shape == x.shape and abs(y - whole(model, x)[:time]).max() <= 1e-5


@pytest.mark.parametrize("alphas", [EVERYWHERE, (1, 1, 1, .5, .2), (0, 0, 0, 0, 0, 0, 0, .5, 0)])
@pytest.mark.parametrize("bypass", [True, False])
def test_fixed_statistics_equal_the_models_own_transfer(alphas, bypass):
    rng, model = np.random.default_rng(0), clip(bypass=bypass)
    x, style = noise(rng, 2_501), noise(rng, 2_001)
    with torch.inference_mode(): known = restyled(model, pad(torch.from_numpy(x)[None, None]), signature(model, style), alphas)[1]
    want = whole(model, x, style, alphas)[:len(x)]
    assert abs(want - whole(model, x)[:len(x)]).max() > 1e-3  # AdaIN did something
    assert abs(in_blocks(OnnxStream(made(model, 64, alphas), signature(model, style), None, known), x, 500, rng) - want).max() <= 1e-5


@pytest.mark.parametrize("content, alphas", [(None, EVERYWHERE), (Running(half_life=.05), EVERYWHERE), (Running(warm_up=0), (1.,)*9), (Running(half_life=1., warm_up=2.), (0, 1, 0, 1, 0, 1, 0, 1, 0)), (None, (0.,)*9)])
def test_running_statistics_equal_the_streams(content, alphas):
    "One file with AdaIN everywhere, alphas given by the host; two channels, which do not mix."
    rng, model = np.random.default_rng(0), clip()
    x, style = noise(rng, 2, 4_001), signature(model, noise(rng, 2_001))
    got = in_blocks(OnnxStream(made(model), style, alphas, content), x, 900, rng)
    assert abs(got - in_blocks(Stream(model, style, alphas, content), x, 900, rng)).max() <= 1e-5


@pytest.mark.parametrize("alphas", [EVERYWHERE, (1, 1, 1, .5, .2), (1, 0, 1, 0, 0, 0, 1, 0, 0)])
def test_frame_axis_equals_the_models_own_transfer(alphas):
    rng, model = np.random.default_rng(0), clip(axis="frame")
    x, style = noise(rng, 2_501), noise(rng, 2_001)  # the style is repeated
    bound = 1e-5 + 2*rounding(model, x, style, alphas)
    assert abs(in_blocks(OnnxStream(made(model, 64, alphas), style), x, 500, rng) - whole(model, x, style, alphas)[:len(x)]).max() <= bound < 1e-4


@pytest.mark.parametrize("widths, block", [((32, 64, 128, 256), 256), (HALF, 128)])
def test_real_widths_equal_the_model(widths, block):
    "The released ones; and half of them, without bypass."
    rng, model = np.random.default_rng(0), clip(widths=widths, bypass=widths != HALF, alphas=EVERYWHERE)
    x, style = noise(rng, 3_000), signature(model, noise(rng, 2_000))
    assert abs(in_blocks(OnnxStream(made(model, block, None), style), x, 3_000, rng) - in_blocks(Stream(model, style), x, 3_000, rng)).max() <= 1e-5


def test_a_step_is_late_by_its_delay_and_start_forgets():
    rng, model = np.random.default_rng(0), clip()
    style, x = signature(model, noise(rng, 2_000)), noise(rng, 1_280)
    step = Step(made(model), style)
    run = lambda: np.concatenate([step(samples) for samples in x.reshape(-1, 64)])
    first, went_on = run(), run()
    assert step.delay == 274 and step.position == 2*1_280
    assert np.array_equal(step.start() and run(), first) and abs(went_on - first).max() > 1e-3
    assert abs(first[274:] - Stream(model, style, EVERYWHERE).push(x)[:1_280 - 274]).max() <= 1e-5


def test_what_follows_the_end_does_not_matter():
    rng, model = np.random.default_rng(0), clip()
    x, outs = noise(rng, 640), []
    for after in (0, 1):
        step = Step(made(model))
        outs.append(np.concatenate([step(samples, 160) for samples in np.where(np.arange(640) < 160, x, after*x).astype(np.float32).reshape(-1, 64)]))
    assert np.array_equal(outs[0][:274 + 160], outs[1][:274 + 160])


def test_a_style_can_change_between_blocks():
    "The block after a change is what it had been with the new style all along, when the content's statistics do not depend on it."
    rng, model = np.random.default_rng(0), clip()
    file, x, (a, b) = made(model, alphas=(1, 1, 1, 1, 0)), noise(rng, 64*40), (flat(signature(model, noise(rng, 2_000)*level), channels(model)) for level in (.1, 1))
    step, outs = Step(file, signature(model, noise(rng, 2_000))), {}
    for name, styles in (("a", [a]*40), ("b", [b]*40), ("ab", [a]*20 + [b]*20)):
        step.start()
        outs[name] = np.concatenate([step(samples) for samples, step.knobs["style"] in zip(x.reshape(-1, 64), styles)])
    assert np.array_equal(outs["ab"][:64*20], outs["a"][:64*20]) and not np.array_equal(outs["ab"][64*20:64*21], outs["a"][64*20:64*21])
    assert abs(outs["a"][-64:] - outs["b"][-64:]).max() > 1e-3


def test_the_file_speaks_for_itself(tmp_path):
    model = clip(alphas=EVERYWHERE)
    file = export_step(model, tmp_path / "m.onnx", 128)
    onnx.checker.check_model(file, full_check=True)
    about = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert (about["block"], about["delay"], about["sample_rate"], about["weights"], about["axis"]) == ("128", "274", "16000", fingerprint(model), "clip")
    assert json.loads(about["places"]) == dict(zip(PLACES, (32, 32, 16, 8, 4, 16, 8, 4, 2))) and json.loads(about["alphas"]) == list(EVERYWHERE)
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
    export_step(model, tmp_path / "m.onnx", 128, (1.,)*9), np.save(tmp_path / "x.npy", x), np.save(tmp_path / "s.npy", flat(style, channels(model)))
    subprocess.run([sys.executable, "-c", HOST, *(tmp_path / name for name in ("m.onnx", "x.npy", "s.npy", "y.npy"))], check=True)
    assert abs(np.load(tmp_path / "y.npy") - in_blocks(Stream(model, style, (.7,)*9), x, 3_003, rng)).max() <= 1e-5


@pytest.mark.parametrize("bypass, alphas", [(True, (1., 1., 1., 1., .2)), (False, EVERYWHERE)])
def test_offline_streamed_and_exported_are_the_same_file(tmp_path, bypass, alphas):
    "To one step of 16 bits, which is each file's own rounding."
    rng, model = np.random.default_rng(0), clip(folder=tmp_path / "w", bypass=bypass, alphas=tuple(map(float, alphas)))
    save(tmp_path / "x.wav", noise(rng, 20_003)*.7, 16_000), save(tmp_path / "y.wav", noise(rng, 9_000), 16_000)
    offline, streamed = (load(f(tmp_path / "x.wav", tmp_path / "y.wav", tmp_path / f"{f.__name__}.wav", 1., tmp_path / "w"))[0] for f in (transfer_file, stream_file))
    x, style = load(tmp_path / "x.wav")[0][0], Style.of(model, tmp_path / "y.wav").on(model)
    gain = np.float32(.9/abs(x).max())
    with torch.inference_mode(): known = restyled(model, pad(torch.from_numpy(x*gain)[None, None]), style, alphas)[1]
    save(tmp_path / "exported.wav", in_blocks(OnnxStream(made(model, 256, alphas), style, None, known), x*gain, 5_000, rng)/gain, 16_000)
    exported = load(tmp_path / "exported.wav")[0]
    assert offline.shape == streamed.shape == exported.shape == (1, 20_003)
    for other in (streamed, exported): assert abs(other - offline).max() <= 2**-15 + 1e-6


def test_live_writes_what_a_stream_makes(tmp_path):
    "In line with the content and as long: the delay is cut off."
    rng, model = np.random.default_rng(0), clip(folder=tmp_path / "w", alphas=(1., 1., 1., 1., .2))
    save(tmp_path / "x.wav", noise(rng, 5_001)*.7, 16_000), save(tmp_path / "y.wav", noise(rng, 9_000), 16_000)
    said = live_file(tmp_path / "x.wav", tmp_path / "y.wav", tmp_path / "out.wav", 512, .6, tmp_path / "w")
    want = in_blocks(Stream(model, Style.of(model, tmp_path / "y.wav").on(model), [.6*a for a in model.alphas]), load(tmp_path / "x.wav")[0][0], 5_001, rng)
    got = load(tmp_path / "out.wav")[0][0]
    assert said["blocks"] == 11 and got.shape == want.shape and abs(got - want).max() <= 2**-15 + 1e-6


def foreign():
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "abs", [x], [y])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def test_a_module_without_drawing_is_refused():
    with pytest.raises(TypeError, match="LSTM"): drawn(torch.nn.LSTM(3, 3), Graph(64), Signal("x", 1, 3))


@pytest.mark.parametrize("bad, message", [
    (lambda d, f, m: step_model(m, 100), "multiple of 16"), (lambda d, f, m: step_model(m, 2_048), "at most 1024"), (lambda d, f, m: step_model(m, 0), "multiple of 16"),
    (lambda d, f, m: export_step(m, d / "m.pt"), "is a .onnx"), (lambda d, f, m: export_step(m, d / "no" / "m.onnx"), "folder"), (lambda d, f, m: Step(d / "absent.onnx"), "no such file"),
    (lambda d, f, m: Step(b"not a graph"), "cannot read"), (lambda d, f, m: Step(foreign()), "not a file that mambamuse"),
    (lambda d, f, m: Step(f)(np.zeros(128)), r"\(64,\)"), (lambda d, f, m: Step(f)(np.full(64, np.nan)), "NaN"), (lambda d, f, m: Step(f, np.zeros(500)), "statistics"),
    (lambda d, f, m: Step(made(m, 64, (1, 0, 0, 0, 0)), signature(m, np.ones(500, np.float32)), (1, 0, 1, 0, 0)), "no AdaIN at skip128"),
    (lambda d, f, m: Step(f, signature(MambaMuse(widths=HALF, axis="clip"), np.ones(500, np.float32))), "488 channels"),
    (lambda d, f, m: Step(made(clip(axis="frame")), np.ones(50), None, Running()), "clip axis")])
def test_what_cannot_be_is_refused(tmp_path, bad, message):
    model = clip()
    with pytest.raises(InputError, match=message): bad(tmp_path, made(model), model)
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, mambamuse):
    clip(folder=tmp_path / "w", bypass=False, alphas=EVERYWHERE)
    code, said, _ = mambamuse("export", tmp_path / "m.onnx", "--block", 128, "--weights", tmp_path / "w")
    assert code == 0 and json.loads(said)["delay"] == "274" and Step(tmp_path / "m.onnx").block == 128
    code, _, error = mambamuse("export", tmp_path / "m.onnx", "--block", 100, "--weights", tmp_path / "w")
    assert code == 2 and "multiple of 16" in error and error.count("\n") == 1
