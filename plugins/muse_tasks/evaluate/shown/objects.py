"""The things on a canvas by their pixels: where they are, how many, and in which colour, by rules that can be told."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from muse_studio.images.pieces import split_pieces
from muse_studio.images.pixels import scaled

SIDE = 128
"""Pictures are looked at in this many pixels a side."""
EDGE = 2
"""The background is the median colour of a frame of so many pixels."""
DIFFERS = 48
"""Of 255: by how much some channel of a pixel must differ from the background for it to be of a thing."""
PART = 1 / 4
"""A piece counts as a thing from this share of the largest one's pixels on; what is smaller is a part, or dirt."""
LEAST = 0.005
"""The share of the canvas that the largest piece must have, or there is nothing."""
CHROMA = 40
"""Of 255: how far a pixel's channels must be apart for it to have a colour."""
TINTED = 0.1
"""The share of a thing's pixels that must have a colour for the thing to have one."""


def look_at(image: Tensor) -> Tensor:
    """uint8[3, H, W] of any size to int32[3, 128, 128], in which things are looked for."""
    return scaled(image[None].float(), (SIDE, SIDE))[0].round().clamp(0, 255).int()


def find_things(image: Tensor) -> list[Tensor]:
    """The masks bool[H, W] of the things on a canvas int32[3, H, W], the largest first.

    A pixel is of a thing where it differs from the background; pieces that hang together by the sides of their pixels
    are things, but for those that are much smaller than the largest.
    """
    pieces = split_pieces((image - background(image)[:, None, None]).abs().amax(0) >= DIFFERS)
    if not pieces or pieces[0].sum() < LEAST * pieces[0].numel():
        return []
    return [piece for piece in pieces if piece.sum() >= PART * pieces[0].sum()]


def background(image: Tensor) -> Tensor:
    """int32[3]: the median, channel by channel, of a frame at the edge of int32[3, H, W]."""
    inner = torch.zeros(image.shape[1:], dtype=torch.bool)
    inner[EDGE:-EDGE, EDGE:-EDGE] = True
    return image[:, ~inner].median(1).values


def centre(mask: Tensor) -> tuple[float, float]:
    """The mean place of bool[H, W], how far to the right and how far down."""
    rows, columns = mask.nonzero(as_tuple=True)
    return columns.double().mean().item(), rows.double().mean().item()


def name_colour(image: Tensor, mask: Tensor, hues: Mapping[str, float]) -> str | None:
    """The colour that most pixels of a thing are nearest to by hue, None where few have any colour.

    image: int32[3, H, W]; mask: bool[H, W]; hues: of each colour name, in degrees, red at 0.
    """
    pixels = image[:, mask].double()
    chroma = pixels.amax(0) - pixels.amin(0)
    has_colour = chroma >= CHROMA
    if not mask.any() or has_colour.double().mean() < TINTED:
        return None
    apart = (hue(pixels[:, has_colour])[:, None] - torch.tensor(list(hues.values()), dtype=torch.float64)).abs()
    nearest = torch.minimum(apart, 360 - apart).argmin(1)
    return list(hues)[int(torch.bincount(nearest, minlength=len(hues)).argmax())]


def hue(pixels: Tensor) -> Tensor:
    """float64[3, N], no pixel of them grey, to degrees float64[N] on the colour circle: red 0, green 120, blue 240."""
    red, green, blue = pixels
    most, chroma = pixels.amax(0), pixels.amax(0) - pixels.amin(0)
    above_red = torch.where(most == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma)
    sixth = torch.where(most == red, (green - blue) / chroma, above_red)
    return sixth * 60 % 360


def cut_out(image: Tensor, mask: Tensor) -> Tensor:
    """One thing of int32[3, H, W] alone in the middle of a white square a little larger than it: uint8[3, S, S]."""
    rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
    margin = max(height, width) // 16 + 1
    side = max(height, width) + 2 * margin
    square = torch.full((3, side, side), 255, dtype=torch.uint8)
    inner = torch.where(mask, image, 255)[:, top : top + height, left : left + width].byte()
    y, x = (side - height) // 2, (side - width) // 2
    square[:, y : y + height, x : x + width] = inner
    return square
