"""MaskGIT's VQGAN as its authors published it, a tree of flax, and in maskgit-torch's files: two tables.

Its other torch forms, which count blocks by level, are in `muse_vqgan.dialects.taming`.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from muse_studio.runtime.dialects import Dialect, Found, Piece, Rule, Settings, single_part
from muse_studio.runtime.sizes import how_many, multipliers
from muse_vqgan.dialects.layout import BY_GRADIENT, STARTS, decoder_layers, encoder_layers

SCALED = (("scale", "weight"), ("bias", "bias"))
"""What flax calls a norm's gain and bias."""
BLOCK = r"(encoder|decoder)/ResBlock_(\d+)"
FLAX = (
    *(
        Rule(rf"{BLOCK}/GroupNorm_{n}/{their}", rf"\1.ResBlock_\2.norm{n + 1}.{our}")
        for n in (0, 1)
        for their, our in SCALED
    ),
    *(Rule(rf"{BLOCK}/Conv_{n}/kernel", rf"\1.ResBlock_\2.conv{n + 1}.weight", "convolution") for n in (0, 1)),
    Rule(rf"{BLOCK}/Conv_2/kernel", r"\1.ResBlock_\2.shortcut.weight", "convolution"),
    *(Rule(rf"(encoder|decoder)/GroupNorm_0/{their}", rf"\1.norm_out.{our}") for their, our in SCALED),
    Rule(r"(encoder|decoder)/Conv_(\d+)/kernel", r"\1.Conv_\2.weight", "convolution"),
    Rule(r"(encoder|decoder)/Conv_(\d+)/bias", r"\1.Conv_\2.bias"),
    Rule(r"quantizer/codebook", "quantizer.codes"),
)
"""Its authors' tree: blocks and convolutions count through, in the order in which they act."""

LEVELLED = r"(encoder|decoder)\.res_blocks\.(\d+)\.(\d+)"
TORCH = (
    *(Rule(rf"{LEVELLED}\.norm{n}\.(weight|bias)", rf"\1.group\2.\3.norm{n + 1}.\4") for n in (0, 1)),
    *(Rule(rf"{LEVELLED}\.conv{n}\.weight", rf"\1.group\2.\3.conv{n + 1}.weight") for n in (0, 1)),
    Rule(rf"{LEVELLED}\.conv_res\.weight", r"\1.group\2.\3.shortcut.weight"),
    Rule(rf"{LEVELLED}\.(weight|bias)", r"\1.group\2.\3.conv.\4"),
    Rule(r"(encoder|decoder)\.(conv_in|norm_out|conv_out)\.(weight|bias)", r"\1.\2.\3"),
    Rule(r"quantizer\.codebook\.weight", "quantizer.codes"),
)
"""maskgit-torch's names: the groups are levels, as they act; the two middle blocks are the encoder's last group and the
decoder's first. What stands behind a group's blocks is a convolution, after the resolution was doubled."""


def places(settings: Settings) -> dict[str, str]:
    """Our names by those that the two tables give."""
    levels, blocks = len(settings["multipliers"]), settings["blocks"]
    found = {"quantizer": "quantizer"}
    for half, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        block, conv = count(), count()
        for place, name in enumerate(layers(levels, blocks, False)):
            ours, kind = f"{half}.layers.{place}", name.rpartition(".")[2]
            found[f"{half}.{name}"] = ours
            if kind.isdecimal():
                number = next(block)
                found[f"{half}.ResBlock_{number}"] = ours
                found[f"{half}.group{number // blocks}.{number % blocks}"] = ours
            elif name in ("conv_in", "conv_out") or (kind == "change" and half == "decoder"):
                found[f"{half}.Conv_{(number := next(conv))}"] = f"{ours}.conv" if kind == "change" else ours
                if kind == "change":  # behind the blocks of the middle, group 0, and of as many levels
                    found[f"{half}.group{number}.{blocks + 1}"] = ours
    return found


def flax(found: Found) -> dict[str, Any]:
    """Our VQGAN's settings, by the shapes of a tree."""
    shapes = found.shapes
    levels = how_many("decoder/Conv_{}/kernel", shapes) - 1
    number = how_many("encoder/ResBlock_{}/Conv_0/kernel", shapes)
    if levels < 1 or number % (levels + 1) or not number:
        raise ValueError(f"as many blocks at each level: there are {number} at {levels} levels and in the middle")
    blocks = number // (levels + 1)
    wide = [shapes[f"encoder/ResBlock_{level * blocks}/Conv_0/kernel"][-1] for level in range(levels)]
    return _settings(shapes["encoder/Conv_0/kernel"][-1], wide, blocks, shapes["quantizer/codebook"])


def torch_settings(found: Found) -> dict[str, Any]:
    """Likewise, of maskgit-torch's file."""
    shapes = found.shapes
    levels = how_many("encoder.res_blocks.{}.0.conv0.weight", shapes) - 1
    blocks = how_many("encoder.res_blocks.0.{}.conv0.weight", shapes)
    wide = [shapes[f"encoder.res_blocks.{level}.0.conv0.weight"][0] for level in range(levels)]
    return _settings(shapes["encoder.conv_in.weight"][0], wide, blocks, shapes["quantizer.codebook.weight"])


def _settings(channels: int, wide: list[int], blocks: int, codes: list[int]) -> dict[str, Any]:
    size, width = codes
    return {
        "codebook_size": size,
        "code_width": width,
        "channels": channels,
        "multipliers": multipliers(channels, wide),
        "blocks": blocks,
        "decoder_blocks": blocks,
        "maskgit": True,
        "signed": False,
        "quantizer": BY_GRADIENT,
    }


def maskgit_vqgan_flax() -> Dialect:
    """MaskGIT's VQGAN f16-1024 as its authors published it, a tree of flax."""
    piece = Piece("tokenizer", "tokenizer", "vqgan", "", FLAX, flax, places=places, unwrap=("params",), starts=STARTS)
    return single_part("maskgit-vqgan-flax", piece)


def maskgit_vqgan_torch() -> Dialect:
    """MaskGIT's VQGAN f16-1024 in the files of the conversion maskgit-torch."""
    piece = Piece(
        "tokenizer",
        "tokenizer",
        "vqgan",
        "",
        TORCH,
        torch_settings,
        places=places,
        unwrap=("state_dict",),
        starts=STARTS,
    )
    return single_part("maskgit-vqgan-torch", piece)
