"""Where the modules of a VQGAN stand in our part `vqgan`, whose layers are counted from first to last."""

from __future__ import annotations

from collections.abc import Iterator

from muse_weights.table import Settings

ACTIVATION = ""
"""Stands for a layer without weights."""


def places(settings: Settings) -> dict[str, str]:
    """Our names by those that tables give: "encoder.0.1" is block 1 at the largest resolution of the encoder.

    In a decoder the levels count from the smallest resolution, as it goes through them. "change" halves or doubles the
    resolution behind a level, "middle" are the two blocks at the smallest one; what stands elsewhere keeps its name.
    """
    levels, blocks = len(settings["multipliers"]), settings["blocks"]
    found = {name: name for name in ("pre", "post", "quantizer")}
    for side, order in (("encoder", _encoder(levels, blocks)), ("decoder", _decoder(levels, blocks + 1))):
        found |= {f"{side}.{name}": f"{side}.layers.{place}" for place, name in enumerate(order) if name != ACTIVATION}
    return found


def _encoder(levels: int, blocks: int) -> Iterator[str]:
    yield "conv_in"
    for level in range(levels):
        yield from (f"{level}.{block}" for block in range(blocks))
        if level < levels - 1:
            yield f"{level}.change"
    yield from ("middle.0", "middle.1", "norm_out", ACTIVATION, "conv_out")


def _decoder(levels: int, blocks: int) -> Iterator[str]:
    yield from ("conv_in", "middle.0", "middle.1")
    for level in range(levels):
        yield from (f"{level}.{block}" for block in range(blocks))
        if level < levels - 1:
            yield f"{level}.change"
    yield from ("norm_out", ACTIVATION, "conv_out")
