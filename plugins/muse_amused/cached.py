"""aMUSEd's layers at some places of the grid alone, the other places being looked at as they were left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from torch import Tensor

from muse_amused.blocks import Block
from muse_studio.sampling.feature_cache import Visit, gather_places, moved, scatter_places


def revisit(
    blocks: Iterable[Block], x: Tensor, grid: Sequence[int], mask: Tensor, rest: Iterator[Tensor], visit: Visit
) -> tuple[Tensor, list[Tensor]]:
    """float[B, N, width], as it enters the blocks, to what leaves them, and what is kept for the next call.

    rest: gives each block's memories in turn. Kept are features behind the first `everywhere` blocks
    float[B, N, width], each later block's keys and values of its self-attention float[B, heads, N, d], and what left
    the last one.
    """
    pairs = [(block, list(islice(rest, block.memories))) for block in blocks]
    for block, memory in pairs[: visit.everywhere]:
        x = block(x, mask, *memory)
    later = pairs[visit.everywhere :]
    if visit.kept is None:
        kept = [x]
        for block, memory in later:
            query, *seen = block.divide(x, memory[0])
            x = block.after(x, block.self_attention.attend(query, *seen), mask, *memory)
            kept += seen
        return x, [*kept, x]
    first, *seen, last = visit.kept
    places = visit.choose(moved(x, first).unflatten(1, grid))
    x = gather_places(x, places)
    scatter_places(first, places, x)
    for (block, memory), keys, values in zip(later, seen[::2], seen[1::2], strict=True):
        query, *new = block.divide(x, memory[0])
        for old, part in zip((keys, values), new, strict=True):
            scatter_places(old.transpose(1, 2), places, part.transpose(1, 2))
        x = block.after(x, block.self_attention.attend(query, keys, values), mask, *memory)
    scatter_places(last, places, x)
    return last, visit.kept
