"""Muse's blocks at some places of the grid alone, the other places being looked at as they were left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from muse_studio.cache import Choose, Kept, moved, pick, put
from muse_transformer.attention import merge

if TYPE_CHECKING:
    from muse_transformer.trunk import Block, Trunk


def revisit(
    trunk: Trunk, x: Tensor, memories: list[Tensor], mask: Tensor, kept: Kept | None, choose: Choose, everywhere: int
) -> tuple[Tensor, Kept]:
    """float[B, N, width], as it enters the blocks, to logits float[B, N, K] and what is kept for the next call.

    kept: features behind the first `everywhere` blocks float[B, N, width], each later block's keys and values of its
    self-attention float[B, heads, N, d], and the logits.
    """
    pairs = list(zip(trunk.blocks, memories[::2], memories[1::2], strict=True))
    for block, key, value in pairs[:everywhere]:
        x = block(x, key, value, mask)
    if kept is None:
        kept = [x]
        for block, key, value in pairs[everywhere:]:
            query, *seen = block.look.divide(block.norm1(x))
            x = _rest(block, x, block.look.mix(query, *seen), key, value, mask)
            kept += seen
        kept.append(trunk.head(trunk.norm(x)))
        return kept[-1], kept
    places = choose(moved(x, kept[0]).unflatten(1, trunk.grid))
    x = pick(x, places)
    put(kept[0], places, x)
    for (block, key, value), keys, values in zip(pairs[everywhere:], kept[1:-1:2], kept[2:-1:2], strict=True):
        query, *new = block.look.divide(block.norm1(x))
        for old, part in zip((keys, values), new, strict=True):
            put(old.transpose(1, 2), places, part.transpose(1, 2))
        x = _rest(block, x, block.look.mix_at(query, keys, values, places), key, value, mask)
    put(kept[-1], places, trunk.head(trunk.norm(x)))
    return kept[-1], kept


def _rest(block: Block, x: Tensor, seen: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """The block's features float[B, n, width] once its places have looked at the grid: float[B, heads, n, d]."""
    x = x + block.look.out(merge(seen))
    x = x + block.read(block.norm2(x), key, value, mask)
    return x + block.think(block.norm3(x))
