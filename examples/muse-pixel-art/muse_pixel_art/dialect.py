"""The dialect three-heads: colour-heads as a model that has a table and a head for each channel by itself."""

from __future__ import annotations

from typing import Any

from muse_studio.runtime.dialects import Dialect, Found, Piece, Rule, single_part

CHANNELS = ("red", "green", "blue")
TABLE = (
    Rule(r"places", "positions"),
    Rule(r"words\.weight", "text.weight"),
    Rule(r"blocks\.(\d+)\.(.+)", r"layers.layers.\1.\2"),
    Rule(r"norm\.(weight|bias)", r"head.0.\1"),
    *(Rule(rf"{channel}\.table\.weight", rf"embed.{n}.weight") for n, channel in enumerate(CHANNELS)),
    # Three tensors become one: they are stacked in the order of their blocks.
    *(Rule(rf"{channel}\.head\.(weight|bias)", r"head.1.\1", block=n) for n, channel in enumerate(CHANNELS)),
)
"""Its names to those of the part `colour-heads`."""


def sizes(found: Found) -> dict[str, Any]:
    """How the part is set, by the shapes of the file; LookupError where it is another model's."""
    height, width, channels = found.shapes["places"]
    blocks = {name.split(".")[1] for name in found.shapes if name.startswith("blocks.")}
    if not blocks:
        raise ValueError("layers: it has none")
    return {
        "grid": [height, width],
        "text_width": found.shapes["words.weight"][1],
        "width": channels,
        "layers": len(blocks),
    }


def three_heads() -> Dialect:
    """Pixel art's transformer with a table and a head for each of red, green and blue, in one file."""
    return single_part("three-heads", Piece("transformer", "transformer", "colour-heads", "", TABLE, sizes))
