"""Muse's blocks at some places of the grid alone, the other places being looked at as they were left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from muse_studio.nn.layers import merge_heads
from muse_studio.sampling.feature_cache import Visit, gather_places, moved, scatter_places

if TYPE_CHECKING:
    from muse_transformer.trunk import Trunk


def revisit(trunk: Trunk, x: Tensor, memories: list[Tensor], mask: Tensor, visit: Visit) -> tuple[Tensor, list[Tensor]]:
    """float[B, N, width], as it enters the blocks, to logits float[B, N, K] and what is kept for the next call.

    That is features behind the first `everywhere` blocks float[B, N, width], each later block's keys and values of its
    self-attention float[B, heads, N, d], and the logits.
    """
    pairs = list(zip(trunk.blocks, memories[::2], memories[1::2], strict=True))
    for block, key, value in pairs[: visit.everywhere]:
        x = block(x, key, value, mask)
    later = pairs[visit.everywhere :]
    if visit.kept is None:
        kept = [x]
        for block, key, value in later:
            query, *seen = block.look.divide(block.norm1(x))
            x = block.after(x, block.look.out(merge_heads(block.look.mix(query, *seen))), key, value, mask)
            kept += seen
        if visit.wanted is None:
            logits = trunk.head(trunk.norm(x))
        else:
            part = trunk.head(trunk.norm(gather_places(x, visit.wanted)))
            logits = part.new_zeros(*x.shape[:2], part.shape[-1])
            scatter_places(logits, visit.wanted, part)
        return logits, [*kept, logits]
    first, *seen, logits = visit.kept
    places = visit.choose(moved(x, first).unflatten(1, trunk.grid))
    x = gather_places(x, places)
    scatter_places(first, places, x)
    for (block, key, value), keys, values in zip(later, seen[::2], seen[1::2], strict=True):
        query, *new = block.look.divide(block.norm1(x))
        for old, part in zip((keys, values), new, strict=True):
            scatter_places(old.transpose(1, 2), places, part.transpose(1, 2))
        looked = block.look.out(merge_heads(block.look.mix_at(query, keys, values, places)))
        x = block.after(x, looked, key, value, mask)
    scatter_places(logits, places, trunk.head(trunk.norm(x)))
    return logits, visit.kept
