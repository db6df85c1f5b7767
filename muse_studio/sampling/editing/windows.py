"""A picture of any size before a model that knows one size: scaled to fit, and worked on window by window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import MASK, TextEmbedding
from muse_studio.errors import UserError
from muse_studio.images.pixels import scaled
from muse_studio.sampling.editing.region import touched
from muse_studio.sampling.stage import Stage

LARGEST = 2**24
"""Pixels of a picture scaled to the model. The embedded one needs 0.6 kB of memory for each, larger ones more."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """A picture laid out so that every stage's windows fit it: scaled, then filled up to whole cells.

    A cell is the smallest part of which all stages have whole tokens. The scaled picture lies at the top left; what is
    filled up repeats its last row and column.

    picture: height and width of the picture. cells: rows and columns of the plane. window: rows and columns of cells
    that the model sees at once. share: how much of the plane's height and width the scaled picture covers.
    """

    picture: Pair
    cells: Pair
    window: Pair
    share: tuple[float, float]

    @classmethod
    def of(cls, stages: dict[str, Stage], picture: Pair, anchor: Pair | None = None) -> Layout:
        """The plane on which the `anchor`, of height and width, just covers a window; by default the whole picture.

        A square picture is one window. A longer one keeps its shape, and is worked on by several. UserError where it
        would be larger than a machine can decode.
        """
        last = list(stages.values())[-1]
        rows, columns = (math.gcd(*(stage.grid[axis] for stage in stages.values())) for axis in (0, 1))
        window = (rows, columns)
        sides = (last.height, last.width)
        scale = max(side / given for side, given in zip(sides, anchor or picture, strict=True))
        # Pixels of the last stage over the window's become cells; a thousandth forgives what rounding adds.
        lengths = [scale * given * one / side for given, one, side in zip(picture, window, sides, strict=True)]
        tall, wide = (max(one, math.ceil(length - 1e-3)) for length, one in zip(lengths, window, strict=True))
        pixels = tall * wide * math.prod(sides) // math.prod(window)
        if pixels > LARGEST:
            raise UserError(
                f"picture: scaled to the model's {last.width}x{last.height}, {picture[1]}x{picture[0]} pixels would be "
                f"{pixels:,}, and {LARGEST:,} is the most; cut out a part that is less long"
            )
        share = (min(1.0, lengths[0] / tall), min(1.0, lengths[1] / wide))
        return cls(picture, (tall, wide), window, share)

    def grid(self, stage: Stage) -> Pair:
        """Rows and columns of a stage's tokens on all of the plane."""
        return self._spread(stage.grid)

    def size(self, stage: Stage) -> Pair:
        """Height and width of all of the plane in a stage's pixels."""
        return self._spread((stage.height, stage.width))

    def to_stage(self, pixels: Tensor, stage: Stage) -> Tensor:
        """uint8[3, H, W] of the picture to uint8[1, 3, H', W'] of a stage's plane."""
        images = scaled(pixels[None].float(), self._shown(stage))
        return _fill_up(images, self.size(stage)).round().clamp(0, 255).byte()

    def to_picture(self, pixels: Tensor, stage: Stage) -> Tensor:
        """uint8[1, 3, H', W'] of a stage's plane to uint8[3, H, W] of the picture."""
        height, width = self._shown(stage)
        return scaled(pixels[..., :height, :width].float(), self.picture)[0].round().clamp(0, 255).byte()

    def region_to_stage(self, region: Tensor, stage: Stage) -> Tensor:
        """bool[H, W] of the picture to bool[H', W'] of a stage's plane; a pixel that is touched at all is in it."""
        laid = touched(region, self._shown(stage))[None, None]
        return _fill_up(laid.float(), self.size(stage))[0, 0] > 0

    def region_to_picture(self, region: Tensor, stage: Stage) -> Tensor:
        """bool[H', W'] of a stage's plane to bool[H, W] of the picture; a pixel that is touched at all is in it."""
        height, width = self._shown(stage)
        return touched(region[:height, :width], self.picture)

    def corners(self, stage: Stage, hidden: Tensor) -> list[Pair]:
        """`windows` for the hidden places of bool[h, w], a stage's grid of all the plane: corners in its tokens."""
        return windows(hidden, stage.grid, self._cell(stage))

    def _spread(self, sides: Pair) -> Pair:
        rows, columns = (count * side // one for count, side, one in zip(self.cells, sides, self.window, strict=True))
        return rows, columns

    def _cell(self, stage: Stage) -> Pair:
        """Rows and columns of a stage's tokens in a cell."""
        return stage.grid[0] // self.window[0], stage.grid[1] // self.window[1]

    def _shown(self, stage: Stage) -> Pair:
        """Height and width of the scaled picture in a stage's pixels."""
        height, width = (max(1, round(each * side)) for each, side in zip(self.share, self.size(stage), strict=True))
        return height, width


def windows(hidden: Tensor, window: Pair, cell: Pair = (1, 1)) -> list[Pair]:
    """In what order windows fill the hidden places of bool[h, w]: the top left corner of each, on whole cells.

    Neighbours overlap by half. The next one is always that with the most known places around some hidden ones, so that
    new tokens go on from what is there, outwards; what one window has filled is known to the next, so that they agree.
    """
    rows, columns = (
        sorted({*range(0, side - one, max(1, one // each // 2) * each), side - one})
        for side, one, each in zip(hidden.shape, window, cell, strict=True)
    )
    hidden, order = hidden.clone(), []
    corners = [(top, left) for top in rows for left in columns]
    while hidden.any():
        counts = {corner: int(_cut(hidden, corner, window).sum()) for corner in corners}
        best = min((corner for corner in corners if counts[corner]), key=counts.__getitem__)
        _cut(hidden, best, window).fill_(False)
        order.append(best)
    return order


def sample_windows(
    layout: Layout,
    stage: Stage,
    tokens: Tensor,
    text: TextEmbedding,
    generator: torch.Generator,
    *,
    negative: TextEmbedding | None = None,
    low: Tensor | None = None,
) -> Iterator[Tensor]:
    """Sample what is MASK in int64[B, h, w], a stage's grid of all the plane; one yield a step and window.

    low: int64[B, h', w'], the finished tokens of the stage before, of the same plane.
    """
    for corner in layout.corners(stage, (tokens == MASK).any(0)):
        beneath = None
        if low is not None:
            # The cells beneath: from tokens of this stage to those of the one before, which has as many cells.
            scaled = [(its, own) for its, own in zip(low.shape[1:], layout.grid(stage), strict=True)]
            top, left = (place * its // own for place, (its, own) in zip(corner, scaled, strict=True))
            height, width = (side * its // own for side, (its, own) in zip(stage.grid, scaled, strict=True))
            beneath = _cut(low, (top, left), (height, width))
        window = _cut(tokens, corner, stage.grid)
        for grid in stage.sample(text, generator, negative=negative, low=beneath, tokens=window):
            filled = tokens.clone()
            _cut(filled, corner, stage.grid).copy_(grid)
            yield filled
        tokens = filled


def _cut(layout: Tensor, corner: Pair, window: Pair) -> Tensor:
    """The view [..., h, w] of a window in [..., H, W]."""
    (top, left), (height, width) = corner, window
    return layout[..., top : top + height, left : left + width]


def _fill_up(images: Tensor, size: Pair) -> Tensor:
    """float[1, C, H, W] to a larger size, the last row and column repeated."""
    below, right = (new - old for new, old in zip(size, images.shape[-2:], strict=True))
    return F.pad(images, (0, right, 0, below), mode="replicate")
