"""The data set sprites: small things in many colours, with captions, drawn when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from muse_pixel_art.palette import LEVELS

SIDE = 12
"""Art pixels of a sprite's side."""
BODIES = {
    "red": ((3, 0, 0), (2, 0, 0)),
    "orange": ((3, 2, 0), (2, 1, 0)),
    "green": ((0, 2, 0), (0, 1, 0)),
    "blue": ((0, 1, 3), (0, 0, 2)),
    "purple": ((2, 0, 3), (1, 0, 2)),
    "pink": ((3, 1, 2), (2, 0, 1)),
}
"""A colour and its shade, by levels of red, green and blue."""
PLACES = {"by day": (2, 3, 3), "at night": (0, 0, 1), "in the desert": (3, 3, 2)}
"""What is behind."""
OUTLINE, WHITE = (0, 0, 0), (3, 3, 3)


@dataclass(frozen=True)
class Sprites:
    """Eight things, six colours, three places: captions such as "a red ghost at night", each record drawn by its index.

    Each combination is one record.

    size: pixels of a side; a multiple of 12.
    """

    size: int = 96

    def __post_init__(self) -> None:
        if self.size < SIDE or self.size % SIDE:
            raise ValueError(f"size is {self.size}; give a multiple of {SIDE} pixels")

    def __len__(self) -> int:
        return len(drawings()) * len(BODIES) * len(PLACES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`{"image": uint8[3, size, size], "caption": str}`; IndexError beyond the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} records, asked for {index}")
        rest, thing = divmod(index, len(drawings()))
        place, body = divmod(rest, len(BODIES))
        name, colour, where = list(drawings())[thing], list(BODIES)[body], list(PLACES)[place]
        art, scale = paint(name, colour, where) * (255 // (LEVELS - 1)), self.size // SIDE
        image = art.byte().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        return {"image": image, "caption": f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {name} {where}"}


def paint(name: str, colour: str, where: str) -> Tensor:
    """A sprite as levels int64[3, 12, 12] of red, green and blue."""
    body, shade = BODIES[colour]
    paints = {".": PLACES[where], "o": OUTLINE, "c": body, "d": shade, "w": WHITE}
    return torch.tensor([[paints[letter] for letter in row] for row in drawings()[name]]).permute(2, 0, 1)


@cache
def drawings() -> dict[str, list[str]]:
    """Each thing's 12 rows of 12 letters, by its name, as sprites.txt has them, mirrored."""
    text = (files("muse_pixel_art") / "sprites.txt").read_text(encoding="utf-8")
    found = {}
    for block in text.strip().split("\n\n")[1:]:
        name, *halves = block.splitlines()
        found[name] = [half + half[::-1] for half in halves]
    return found
