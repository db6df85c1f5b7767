"""The tokenizer palette: art pixels as tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from muse_studio.contracts import MASK
from torch import Tensor
from torch.nn import functional

from muse_pixel_art.palette import COLOURS, LEVELS, join, split


@dataclass
class Palette:
    """A token is one art pixel, a square of block x block pixels, in the nearest of 64 colours.

    Pixel art whose colours are the palette's comes back exactly; of any other picture its mosaic does.

    block: pixels of a square's side.
    """

    block: int = 8
    codebook_size: int = field(default=COLOURS, init=False)

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"block is {self.block}; give 1 pixel or more")

    def grid_shape(self, height: int, width: int) -> tuple[int, int]:
        """The token grid (h, w) of a picture of that many pixels; ValueError where the size does not fit."""
        if min(height, width) < 1 or height % self.block or width % self.block:
            raise ValueError(f"{height}x{width} pixels don't fit; make each side a multiple of block, {self.block}")
        return height // self.block, width // self.block

    def encode(self, images: Tensor) -> Tensor:
        """float32[B, 3, H, W] in 0..1 to int64[B, h, w]; ValueError where the size does not fit."""
        self.grid_shape(*images.shape[2:])
        levels = (functional.avg_pool2d(images, self.block) * (LEVELS - 1)).round().long().clamp(0, LEVELS - 1)
        return join(levels.movedim(1, -1))

    def decode(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float32[B, 3, H, W] in 0..1; ValueError where a token is MASK."""
        if (tokens == MASK).any():
            raise ValueError(f"{int((tokens == MASK).sum())} tokens are MASK; sample them before they are decoded")
        colours = split(tokens).movedim(-1, 1) / (LEVELS - 1)
        return colours.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
