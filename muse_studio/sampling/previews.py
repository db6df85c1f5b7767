"""Grids that are not finished, as pictures: masked cells are grey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import MASK
from muse_studio.images.pixels import to_bytes
from muse_studio.sampling.cascade import decode
from muse_studio.sampling.stage import Stage

GREYS = (188, 206)
"""A masked cell's shade; neighbours take the one and the other in turn, so that cells can be told apart and counted."""
VEIL = 0.7
"""How much of that shade lies over the picture of the stage before, in the cells that a later stage has yet to fill."""


def previews(stage: Stage, grids: Sequence[Tensor], before: Tensor | None = None) -> Iterator[Tensor]:
    """Every step of B pictures, int64[B, h, w] with MASK, the last one without: uint8[B, 3, H, W] each.

    A masked cell is grey; where `before`, uint8[B, 3, H', W'], the finished pictures of the stage before, is given,
    that shines through. A decoder can't be given MASK, and what it is given there bleeds into the cells beside it.
    So a masked place gets the token that it will have in the end: a known cell looks from the first as in the finished
    picture, unless the sampler takes its token back. And the decoder runs only where it would be given other tokens
    than at the step before: for most samplers once.
    """
    cover = _cover(stage, grids[-1].shape[-2:], before).to(grids[-1].device)
    drawn = decoded = grids[-1]  # of no step yet
    for number, tokens in enumerate(grids):
        masked = tokens == MASK
        filled = torch.where(masked, grids[-1], tokens)
        if number == 0 or not torch.equal(filled, decoded):
            drawn, decoded = to_bytes(decode(stage, filled)), filled
        yield _covered(drawn, masked, cover)


def hide(stage: Stage, pictures: Tensor, masked: Tensor) -> Tensor:
    """B pictures uint8[B, 3, H, W] with the masked cells of bool[B, h, w] in grey, as `previews` has them."""
    cover = _cover(stage, masked.shape[-2:], None).to(pictures.device)
    return _covered(pictures, masked.to(pictures.device), cover)


def _covered(pictures: Tensor, masked: Tensor, cover: Tensor) -> Tensor:
    return torch.where(F.interpolate(masked[:, None].float(), pictures.shape[-2:]).bool(), cover, pictures)


def _cover(stage: Stage, grid: Sequence[int], before: Tensor | None) -> Tensor:
    """uint8[B or 1, 3, H, W]: what masked cells of a grid show, which may be larger than the stage's own."""
    rows, columns = (torch.arange(cells) for cells in grid)
    shades = torch.tensor(GREYS)[(rows[:, None] + columns) % 2]
    size = stage.height * grid[0] // stage.grid[0], stage.width * grid[1] // stage.grid[1]
    grey = F.interpolate(shades[None, None].float(), size).expand(1, 3, -1, -1)
    if before is not None:
        grey = VEIL * grey + (1 - VEIL) * F.interpolate(before.cpu().float(), grey.shape[-2:])
    return grey.round().byte()
