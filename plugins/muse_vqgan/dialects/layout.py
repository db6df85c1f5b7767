"""What the tables of VQGANs share: where modules stand in our part `vqgan`, and its settings by a file's shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from muse_studio.runtime.dialects import Found, Rule, Settings
from muse_studio.runtime.sizes import how_many, multipliers

ACTIVATION = ""
"""Stands for a layer without weights."""


def places(settings: Settings) -> dict[str, str]:
    """Our names by those that tables give: "encoder.0.1" is block 1 at the largest resolution of the encoder.

    In a decoder the levels count from the smallest resolution, as it goes through them; "decoder.up0.1" counts from the
    largest one. "change" halves or doubles the resolution behind a level, "middle" are the two blocks at the smallest
    one, and "attention" stands behind a block; what is none of these keeps its name.
    """
    levels, blocks, attention = len(settings["multipliers"]), settings["blocks"], settings.get("attention", False)
    found = {name: name for name in ("pre", "post", "quantizer")}
    encoder = encoder_layers(levels, blocks, attention)
    found |= {f"encoder.{name}": f"encoder.layers.{place}" for place, name in enumerate(encoder)}
    for place, name in enumerate(decoder_layers(levels, settings.get("decoder_blocks", blocks + 1), attention)):
        found[f"decoder.{name}"] = f"decoder.layers.{place}"
        level, dot, rest = name.partition(".")
        if level.isdecimal():
            found[f"decoder.up{levels - 1 - int(level)}{dot}{rest}"] = f"decoder.layers.{place}"
    return found


def encoder_layers(levels: int, blocks: int, attention: bool) -> Iterator[str]:
    """What each layer of our encoder is, in their order, by the names of `places`."""
    yield "conv_in"
    for level in range(levels):
        yield from _level(level, blocks, attention and level == levels - 1)
        if level < levels - 1:
            yield f"{level}.change"
    yield from _middle(attention)
    yield from ("norm_out", ACTIVATION, "conv_out")


def decoder_layers(levels: int, blocks: int, attention: bool) -> Iterator[str]:
    """As `encoder_layers`; levels count from the smallest resolution."""
    yield "conv_in"
    yield from _middle(attention)
    for level in range(levels):
        yield from _level(level, blocks, attention and level == 0)
        if level < levels - 1:
            yield f"{level}.change"
    yield from ("norm_out", ACTIVATION, "conv_out")


def _level(level: int, blocks: int, attention: bool) -> Iterator[str]:
    for block in range(blocks):
        yield f"{level}.{block}"
        if attention:
            yield f"{level}.{block}.attention"


def _middle(attention: bool) -> Iterator[str]:
    return iter(["middle.0", "middle.attention", "middle.1"] if attention else ["middle.0", "middle.1"])


MODULE = r"(norm1|conv1|norm2|conv2)\.(weight|bias)"
"""What a residual block holds, in every dialect."""


def attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Attention of 1x1 convolutions to ours: queries, keys and values stacked, linear."""
    return (
        *(Rule(rf"{theirs}\.norm\.{each}", rf"{ours}.norm.{each}") for each in ("weight", "bias")),
        *(Rule(rf"{theirs}\.{each}\.weight", rf"{ours}.project.weight", "linear", n) for n, each in enumerate("qkv")),
        *(Rule(rf"{theirs}\.{each}\.bias", rf"{ours}.project.bias", "", n) for n, each in enumerate("qkv")),
        Rule(rf"{theirs}\.proj_out\.weight", rf"{ours}.out.weight", "linear"),
        Rule(rf"{theirs}\.proj_out\.bias", rf"{ours}.out.bias"),
    )


BY_GRADIENT = {"use": "vq", "cosine": False, "ema": 0.0, "revive_after": 0}
"""The quantizer of most published VQGANs: a codebook that was learned by gradient, compared as it is."""

STARTS = {"quantizer.idle": 0.0}
"""How long each code has been idle, which training alone counts."""


def settings(
    found: Found,
    encoder: str = "encoder.down.{}.block.{}",
    decoder: str = "decoder.up.0.block.{}",
    codes: str = "quantize.embedding.weight",
) -> dict[str, Any]:
    """Our VQGAN's settings, by the shapes of the tensors.

    encoder: what the dialect calls a block of a level. decoder: one of any level. codes: its table of codes.
    """
    shapes = found.shapes
    channels, latents = shapes["encoder.conv_in.weight"][0], shapes["encoder.conv_out.weight"][0]
    levels = count_blocks(encoder.format("{}", 0), shapes)
    wide = [shapes[f"{encoder.format(level, 0)}.conv1.weight"][0] for level in range(levels)]
    size, width = shapes[codes]
    return {
        "codebook_size": size,
        "code_width": width,
        "latent_width": None if latents == width else latents,
        "channels": channels,
        "multipliers": multipliers(channels, wide),
        "blocks": count_blocks(encoder.format(0, "{}"), shapes),
        "decoder_blocks": count_blocks(decoder, shapes),
        "attention": any(".q." in name for name in shapes),
        "quantizer": BY_GRADIENT,
    }


def count_blocks(block: str, shapes: Mapping[str, list[int]]) -> int:
    """How many blocks there are of that name, {} standing for 0, 1, 2 ..."""
    return how_many(f"{block}.conv1.weight", shapes)
