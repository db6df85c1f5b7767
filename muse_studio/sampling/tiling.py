"""Decoding a large picture in overlapping tiles, in memory that the picture's size does not decide."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def tiled(decode: Callable[[Tensor], Tensor], tokens: Tensor, tile: int) -> Tensor:
    """decode(tokens) of int64[B, h, w], by tiles of `tile` x `tile` tokens where the grid is larger: float[B, 3, H, W].

    Neighbours share a quarter of a tile's side or more. There the one fades into the other, evenly over the middle
    half: what a decoder makes of a place is as untiled where it looks no further than a sixteenth of the tile; where it
    looks further, such as by a norm over the whole picture, no edge shows.
    """
    height, width = tokens.shape[1:]
    if max(height, width) <= tile:
        return decode(tokens)
    down, right = min(tile, height), min(tile, width)
    total = weights = tokens.new_zeros(())
    for top in starts(height, tile):
        for left in starts(width, tile):
            images = decode(tokens[:, top : top + down, left : left + right])
            stride = images.shape[-1] // right
            if total.ndim == 0:
                total = images.new_zeros(*images.shape[:2], height * stride, width * stride)
                weights = torch.zeros_like(total[0, 0])
            rows = fade(down, tile, stride, top > 0, top + down < height)
            columns = fade(right, tile, stride, left > 0, left + right < width)
            weight = (rows[:, None] * columns).to(images)
            area = (..., slice(top * stride, (top + down) * stride), slice(left * stride, (left + right) * stride))
            total[area] += images * weight
            weights[area] += weight
    return total / weights


def starts(side: int, tile: int) -> list[int]:
    """Where tiles begin that cover `side` tokens, evenly; each shares a quarter of its side or more with the next."""
    if side <= tile:
        return [0]
    steps = -(-(side - tile) // (tile - overlap(tile)))
    return [round(step * (side - tile) / steps) for step in range(steps + 1)]


def overlap(tile: int) -> int:
    """Tokens that neighbours share at least: a quarter of a tile's side."""
    return tile // 4


def fade(side: int, tile: int, stride: int, before: bool, after: bool) -> Tensor:
    """Weights float32[side * stride] of a tile's pixels along one side, down to 0 where a neighbour is before, after.

    The outer and the inner quarter of the shared pixels are 0 and 1, the middle half rises evenly.
    """
    shared = overlap(tile) * stride
    place = (torch.arange(side * stride) + 0.5) / shared
    rising = (2 * place - 0.5).clamp(0, 1)
    weights = torch.ones(side * stride)
    if before:
        weights = weights * rising
    if after:
        weights = weights * rising.flip(0)
    return weights
