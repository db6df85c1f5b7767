"""Open-MAGVIT2's tokenizer against an independent one of the same names, with and without moving averages."""

import pytest
import torch
import torch.nn.functional as F
from importing import importing
from muse_magvit2.dialect import open_magvit2

import muse_studio
from muse_studio.contracts import Tokenizer
from muse_studio.errors import UserError
from muse_studio.recipe.build import build
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.dialects import Found
from muse_studio.runtime.matching import differences, match

BITS = 5


def shapes(bits=BITS, channels=32, multipliers=(1, 1, 2), blocks=1):
    """The names and shapes of their Encoder and Decoder."""
    wide, found = [channels * each for each in multipliers], {}
    top, levels = wide[-1], len(wide)

    def block(name, into, out):
        found.update({f"{name}.norm1.{each}": (into,) for each in ("weight", "bias")})
        found.update({f"{name}.norm2.{each}": (out,) for each in ("weight", "bias")})
        found.update({f"{name}.conv1.weight": (out, into, 3, 3), f"{name}.conv2.weight": (out, out, 3, 3)})
        if into != out:
            found[f"{name}.nin_shortcut.weight"] = (out, into, 1, 1)

    def layer(name, *shape):
        found.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    for half, way in (("encoder", "down"), ("decoder", "up")):
        for number in range(blocks):
            block(f"{half}.mid_block.{number}", top, top)
        for level, out in enumerate(wide):
            before = wide[max(level - 1, 0)] if way == "down" else wide[min(level + 1, levels - 1)]
            for number in range(blocks):
                block(f"{half}.{way}.{level}.block.{number}", out if number else before, out)
            if way == "up":
                layer(f"decoder.adaptive.{level}.gamma", before, bits)
                layer(f"decoder.adaptive.{level}.beta", before, bits)
        layer(f"{half}.norm_out", top if way == "down" else channels)
    for level in range(levels - 1):
        layer(f"encoder.down.{level}.downsample", wide[level], wide[level], 3, 3)
        layer(f"decoder.up.{level + 1}.upsample.conv1", 4 * wide[level + 1], wide[level + 1], 3, 3)
    found["encoder.conv_in.weight"] = (channels, 3, 3, 3)
    layer("encoder.conv_out", bits, top, 1, 1)
    layer("decoder.conv_in", top, bits, 3, 3)
    layer("decoder.conv_out", 3, channels, 3, 3)
    return found


def state(seed=0):
    g = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes().items():
        scale = 0.2 if len(shape) == 1 else (shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)) ** -0.5
        gain = "norm" in name and name.endswith("weight")
        made[name] = gain + scale * torch.randn(shape, generator=g)
    return made


def conv(held, name, x, stride=1):
    weight = held[f"{name}.weight"]
    return F.conv2d(x, weight, held.get(f"{name}.bias"), stride, weight.shape[-1] // 2)


def norm(held, name, x):
    return F.silu(F.group_norm(x, 32, held[f"{name}.weight"], held[f"{name}.bias"], 1e-6))


def block(held, name, x):
    y = conv(
        held, f"{name}.conv2", norm(held, f"{name}.norm2", conv(held, f"{name}.conv1", norm(held, f"{name}.norm1", x)))
    )
    return y + (conv(held, f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in held else x)


def encode(held, images):
    x = conv(held, "encoder.conv_in", images * 2 - 1)
    for level in range(3):
        x = block(held, f"encoder.down.{level}.block.0", x)
        if level < 2:
            x = conv(held, f"encoder.down.{level}.downsample", x, 2)
    x = norm(held, "encoder.norm_out", block(held, "encoder.mid_block.0", x))
    bits = conv(held, "encoder.conv_out", x) > 0
    return sum(bits[:, each].long() * 2**each for each in range(BITS))


def decode(held, codes):
    z = torch.stack([(codes >> each & 1) * 2.0 - 1 for each in range(BITS)], 1)
    spread, mean = (z.var((2, 3), unbiased=True) + 1e-6).sqrt(), z.mean((2, 3))
    x = block(held, "decoder.mid_block.0", conv(held, "decoder.conv_in", z))
    for level in (2, 1, 0):
        name = f"decoder.adaptive.{level}"
        gain = F.linear(spread, held[f"{name}.gamma.weight"], held[f"{name}.gamma.bias"])[:, :, None, None]
        shift = F.linear(mean, held[f"{name}.beta.weight"], held[f"{name}.beta.bias"])[:, :, None, None]
        x = block(held, f"decoder.up.{level}.block.0", gain * F.group_norm(x, 32, eps=1e-6) + shift)
        if level > 0:
            grown = conv(held, f"decoder.up.{level}.upsample.conv1", x)
            x = grown.new_empty(len(x), x.shape[1], 2 * x.shape[2], 2 * x.shape[3])
            for place, part in enumerate(grown.chunk(4, 1)):  # the first channels are the squares' upper left places
                x[:, :, place // 2 :: 2, place % 2 :: 2] = part
    x = conv(held, "decoder.conv_out", norm(held, "decoder.norm_out", x))
    return ((x + 1) / 2).clamp(0, 1)


@torch.no_grad()
@pytest.mark.parametrize("averaged", [True, False])
def test_a_file_is_the_independent_model_of_the_same_numbers(tmp_path, averaged):
    held = state()
    file = dict(held)
    if averaged:
        file = {name: torch.zeros_like(tensor) for name, tensor in held.items()}
        file |= {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in held.items()}
        file |= {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(3)}
    file["loss.discriminator.weight"] = torch.ones(2)
    torch.save({"state_dict": file, "epoch": 3}, tmp_path / "imagenet_256_L.ckpt")
    report = importing(str(tmp_path / "imagenet_256_L.ckpt"), "open-magvit2", str(tmp_path / "out"))()
    assert [str(problem) for problem in muse_studio.check(str(report.recipes[0]))] == []
    ours = build(load(report.recipes[0]), Registry(), Tokenizer).eval()
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    codes = encode(held, images)
    assert torch.equal(ours.encode(images), codes) and codes.unique().numel() > 3
    pictures = decode(held, codes)
    torch.testing.assert_close(ours.decode(codes), pictures, atol=1e-4, rtol=0)
    assert pictures.std() > 0.01


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda held: held.pop("decoder.adaptive.1.beta.bias"), "1 missing: decoder.adapt.1.shift.bias"),
        (lambda held: held.update({"quant_conv.weight": torch.ones(2)}), "1 not used: quant_conv.weight"),
        (lambda held: held["decoder.conv_out.bias"].fill_(torch.nan), "1 not finite: decoder.conv_out.bias"),
        (lambda held: held.update({"encoder.norm_out.bias": torch.ones(5)}), r"\[5\], and encoder.norm.bias is \[64\]"),
        (lambda held: held.pop("encoder.conv_in.weight"), "is another model's: its tokenizer lacks"),
        (lambda held: held.update({"model_ema.encoderconv_outbias": torch.ones(BITS)}), "another model's: its tok"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, edit, message):
    held = state()
    edit(held)
    torch.save({"state_dict": held}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=message):
        importing(str(tmp_path / "x.ckpt"), "open-magvit2", str(tmp_path / "out"))()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bits", [18, 14])
def test_the_published_sizes_have_our_names(bits):
    piece = open_magvit2().pieces[0]
    theirs = {name: list(shape) for name, shape in shapes(bits, 128, (1, 1, 2, 2, 4), 4).items()}
    assert len(theirs) == 339
    settings = piece.settings(Found({}, theirs, {}))
    with torch.device("meta"):
        ours = muse_studio.parts("tokenizer", "magvit2")[0].load()(**settings)
    assert ours.codebook_size == 2**bits and ours.stride == 16
    wanted = {name: list(tensor.shape) for name, tensor in ours.state_dict().items()}
    wrong = differences(match(theirs, piece, settings), theirs, wanted)
    assert not any(wrong.values()), wrong
    assert round(sum(parameter.numel() for parameter in ours.parameters()) / 1e6, 1) == 115.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 0}, "bits is 0; give 1 to 62"),
        ({"blocks": 0}, "blocks is 0, multipliers are"),
        ({"channels": 40}, "channels is 40; give a multiple of 32"),
    ],
)
def test_sizes_that_can_t_be_are_told_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        muse_studio.parts("tokenizer", "magvit2")[0].load()(**settings)
