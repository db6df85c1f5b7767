"""Open-MAGVIT2's tokenizers, whose files hold each tensor and its moving average."""

from __future__ import annotations

from typing import Any

from muse_studio.runtime.dialects import Dialect, Found, Piece, Rule, Settings, single_part
from muse_studio.runtime.sizes import how_many, multipliers

MODULE = r"(norm1|conv1|norm2|conv2)\.(weight|bias)"
"""What a residual block holds."""

RULES = (
    Rule(r"(encoder|decoder)\.conv_in\.(weight|bias)", r"\1.first.\2"),
    Rule(r"(encoder|decoder)\.conv_out\.(weight|bias)", r"\1.last.\2"),
    Rule(r"(encoder|decoder)\.norm_out\.(weight|bias)", r"\1.norm.\2"),
    Rule(rf"(encoder|decoder)\.mid_block\.(\d+)\.{MODULE}", r"\1.middle.\2.\3.\4"),
    Rule(rf"encoder\.down\.(\d+)\.block\.(\d+)\.{MODULE}", r"encoder.levels.\1.\2.\3.\4"),
    Rule(rf"decoder\.up\.(\d+)\.block\.(\d+)\.{MODULE}", r"decoder.levels.\1.\2.\3.\4"),
    Rule(r"encoder\.down\.(\d+)\.block\.(\d+)\.nin_shortcut\.weight", r"encoder.levels.\1.\2.shortcut.weight"),
    Rule(r"decoder\.up\.(\d+)\.block\.(\d+)\.nin_shortcut\.weight", r"decoder.levels.\1.\2.shortcut.weight"),
    Rule(r"encoder\.down\.(\d+)\.downsample\.(weight|bias)", r"encoder.shrink.\1.\2"),
    Rule(r"decoder\.up\.(\d+)\.upsample\.conv1\.(weight|bias)", r"decoder.grow\1.\2"),
    Rule(r"decoder\.adaptive\.(\d+)\.gamma\.(weight|bias)", r"decoder.adapt.\1.gain.\2"),
    Rule(r"decoder\.adaptive\.(\d+)\.beta\.(weight|bias)", r"decoder.adapt.\1.shift.\2"),
)
"""Their Encoder and Decoder to our part `magvit2`; level n grows by our n - 1."""


def places(settings: Settings) -> dict[str, str]:
    """Our names by those that the table gives."""
    growing = {f"decoder.grow{level}": f"decoder.grow.{level - 1}" for level in range(1, len(settings["multipliers"]))}
    return {"encoder": "encoder", "decoder": "decoder", **growing}


def tokenizer(found: Found) -> dict[str, Any]:
    """Our tokenizer's settings, by the shapes."""
    shapes, block = found.shapes, "encoder.down.{}.block.{}.conv1.weight"
    channels, bits = shapes["encoder.conv_in.weight"][0], shapes["encoder.conv_out.weight"][0]
    levels = how_many(block.format("{}", 0), shapes)
    wide = [shapes[block.format(level, 0)][0] for level in range(levels)]
    return {
        "bits": bits,
        "channels": channels,
        "multipliers": multipliers(channels, wide),
        "blocks": how_many(block.format(0, "{}"), shapes),
    }


def open_magvit2() -> Dialect:
    """Open-MAGVIT2's tokenizers of 16,384 and 262,144 codes."""
    piece = Piece(
        "tokenizer",
        "tokenizer",
        "magvit2",
        "",
        RULES,
        tokenizer,
        places=places,
        drop=(r"loss\..*",),  # the discriminator and the perceptual network, which training alone needs
        unwrap=("state_dict",),
        averages="model_ema.",
    )
    return single_part("open-magvit2", piece)
