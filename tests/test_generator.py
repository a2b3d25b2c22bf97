"""The generator against a second, literal writing of the released network, on mamba-ssm's own blocks."""

import io
import random
from collections.abc import Mapping
from pathlib import Path

import mamba_ssm.modules.mamba_simple as mamba_simple
import pytest
import torch
import torch.nn.functional as F
from mamba_ssm.ops.selective_scan_interface import selective_scan_ref
from safetensors.torch import save_file

from mambamuse.errors import InputError
from mambamuse.model.generator import MambaMuse, read_upstream

TheirMamba = mamba_simple.Mamba
mamba_simple.selective_scan_fn = (
    selective_scan_ref  # without the CUDA extension the block has only its reference
)


def random_weights(model):
    "Every tensor away from its initial value, so that no scale of 1 or shift of 0 can hide an error."
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p) * (p.std() if p.numel() > 1 else 1)
    return {k: v.clone() for k, v in model.state_dict().items()}


def weight(sd, name):
    g, v = sd[f"{name}.parametrizations.weight.original0"], sd[f"{name}.parametrizations.weight.original1"]
    return g * v / v.flatten(1).norm(dim=1)[:, None, None]


def conv(sd, name, x, **kw):
    return F.conv1d(x, weight(sd, name), sd[f"{name}.bias"], **kw)


def norm(sd, name, x):
    return F.layer_norm(
        x.transpose(1, 2), (x.shape[1],), sd[f"{name}.ln.weight"], sd[f"{name}.ln.bias"]
    ).transpose(1, 2)


def mambas(sd, name, x, n):
    for i in range(n):
        block = TheirMamba(x.shape[1], use_fast_path=False)
        block.load_state_dict(
            {
                k.removeprefix(f"{name}.mambas.{i}."): v
                for k, v in sd.items()
                if k.startswith(f"{name}.mambas.{i}.")
            }
        )
        x = x + block(norm(sd, f"{name}.lns.{i}", x).transpose(1, 2)).transpose(1, 2)
    return x


def encode(sd, x):
    skips = []
    for i in range(5):
        name, k = f"encoder.convs.{i}", 4 if i < 4 else 3
        a = F.leaky_relu(norm(sd, f"{name}.conv1.1", conv(sd, f"{name}.conv1.0", F.pad(x, (0, k - 1)))), 0.1)
        a = (
            F.leaky_relu(norm(sd, f"{name}.conv2.1", conv(sd, f"{name}.conv2.0", F.pad(a, (0, k - 1)))), 0.1)
            + a
        )
        a = mambas(sd, f"{name}.mamba", F.avg_pool1d(a, 2, 2) if i < 4 else a, 2 if i < 4 else 3)
        if i < 4:
            skips.append(a)
        x = norm(sd, f"encoder.lns.{i}", a)
        if i < 4:
            x = F.leaky_relu(x, 0.1)
    return x, skips


def mix(content, style, alpha):
    "The released AdaIN: mean and unbiased variance over dimension 1, eps inside the root."

    def mean(t):
        return t.mean(1, keepdim=True)

    def std(t):
        return torch.sqrt(t.var(1, keepdim=True, unbiased=True) + 1e-5)

    return (
        alpha * ((content - mean(content)) / std(content) * std(style) + mean(style)) + (1 - alpha) * content
    )


def released(sd, content, style=None, alphas=None):
    x, skips = encode(sd, content)
    if style is not None:
        y, style_skips = encode(sd, style)
        x = mix(x, y, alphas[0])
        skips = [
            mix(c, s, a) for c, s, a in zip(skips, style_skips, (alphas[4], alphas[3], alphas[2], alphas[1]))
        ]
    for i, k in enumerate((4, 4, 8, 8)):
        x = F.leaky_relu(x, 0.1) + skips[3 - i]
        x = F.conv_transpose1d(x, weight(sd, f"ups.{i}"), sd[f"ups.{i}.bias"], stride=2, padding=k // 2 - 1)
        x = mambas(sd, f"mambas.{i}", x, 2)
        for name, d in (("dilation1", 1), ("dilation2", 3)):
            a = conv(sd, f"resblocks.{i}.{name}.1", F.leaky_relu(x, 0.1), padding=d, dilation=d)
            x = conv(sd, f"resblocks.{i}.{name}.3", F.leaky_relu(a, 0.1), padding=1) + x
    return torch.tanh(conv(sd, "final_upsample.1", F.leaky_relu(x, 0.1), padding=3))


def test_layout_is_the_released_one():
    rows = dict(
        line.split("\t")
        for line in Path(__file__).with_name("released_state_dict.tsv").read_text().splitlines()
    )
    assert len(rows) == 332
    assert {k: "x".join(map(str, v.shape)) for k, v in MambaMuse().state_dict().items()} == rows


@pytest.mark.parametrize("seed", range(3))
def test_parity_with_the_released_network(seed):
    torch.manual_seed(seed)
    sd = random_weights(MambaMuse())
    model = MambaMuse.from_upstream(sd)
    content, style = 0.9 * torch.rand(2, 1, 480) - 0.45, 0.9 * torch.rand(2, 1, 480) - 0.45
    with torch.no_grad():
        cases = [(model(content), released(sd, content))]
        for alphas in ((1, 1, 1, 1, 0), (1, 1, 1, 1, 0.2), tuple(torch.rand(5).tolist())):
            cases.append((model(content, style, alphas), released(sd, content, style, alphas)))
        for ours, theirs in cases:
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
        assert (cases[0][0] - cases[1][0]).abs().max() > 1e-3  # AdaIN did something


def test_checkpoint_files(tmp_path):
    sd = random_weights(MambaMuse())
    (
        torch.save(sd, tmp_path / "gen_only"),
        torch.save({"generator": sd, "epoch": 16}, tmp_path / "nested.pt"),
        save_file(sd, tmp_path / "gen.safetensors"),
    )
    for name in ("gen_only", "nested.pt", "gen.safetensors"):
        loaded = MambaMuse.from_upstream(tmp_path / name).state_dict()
        assert all(torch.equal(loaded[k], v) for k, v in sd.items())
    del sd["ups.1.bias"]
    torch.save(sd, tmp_path / "incomplete")
    with pytest.raises(InputError, match="ups.1.bias"):
        MambaMuse.from_upstream(tmp_path / "incomplete")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's own word on a flipped byte
@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_checkpoint_is_one_line(tmp_path, zipped):
    whole, draw, path, refused = io.BytesIO(), random.Random(0), tmp_path / "gen", 0
    torch.save(
        {"generator": {"ups.0.bias": torch.zeros(4), "ups.0.weight": torch.ones(3, 3)}},
        whole,
        _use_new_zipfile_serialization=zipped,
    )
    cut = [whole.getvalue()[: draw.randrange(len(whole.getvalue()))] for _ in range(100)]
    noise = [draw.randbytes(draw.randrange(300)) for _ in range(100)]
    flipped = [bytearray(whole.getvalue()) for _ in range(300)]
    for file in flipped:
        file[draw.randrange(len(file))] = draw.randrange(256)
    for file in (*cut, *noise, *flipped):
        path.write_bytes(file)
        try:
            assert isinstance(read_upstream(path), Mapping)
        except InputError as error:
            refused += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)
    assert refused >= 200  # all that were cut, and all noise


def test_weights_that_do_not_fit_are_refused(tmp_path):
    MambaMuse(widths=(4, 8, 16, 32)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace("32", "64"))
    with pytest.raises(RuntimeError):
        MambaMuse.from_pretrained(tmp_path)


@pytest.mark.parametrize("sets", [1, 2, 4])
@pytest.mark.parametrize(
    "kind, within", [(torch.float64, 1e-4), (torch.bfloat16, 0.2), (torch.float16, 0.05)]
)
def test_other_precisions_transfer_with_any_number_of_sets(sets, kind, within):
    "Also where it is silent: the smallest energy of the envelope's rules would be 0 in float16."
    torch.manual_seed(0)
    model = MambaMuse((4, 8, 16, 32), "clip", sets=sets).for_inference()
    x, y = 0.5 * torch.randn(2, 1, 1, 4_000)
    x[..., :2_000] = 0
    with torch.inference_mode():
        want = model(x, y)
        got = model.to(kind)(x.to(kind), y.to(kind))
    assert got.dtype == kind
    assert (got.double() - want.double()).abs().max() <= within * want.abs().max()
