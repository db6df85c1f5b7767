"""Puts emoji on coloured canvases, several at once, and in other colours; each drawn exactly as its caption has it."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

RGBA = NDArray[np.uint8]
WHITE = (255, 255, 255)
BACKGROUNDS = {
    "red": (214, 48, 49), "orange": (240, 147, 43), "yellow": (249, 214, 72), "green": (76, 166, 84),
    "light green": (186, 225, 160), "blue": (52, 120, 210), "light blue": (173, 216, 240), "purple": (131, 80, 180),
    "pink": (246, 170, 196), "brown": (134, 92, 60), "grey": (150, 150, 150), "black": (20, 20, 20),
}  # fmt: skip
HUES = {"red": 0, "orange": 21, "yellow": 38, "green": 85, "blue": 155, "purple": 195, "pink": 230}
"""Hues on pillow's circle of 256."""


def flatten(picture: RGBA, background: tuple[int, int, int] = WHITE) -> NDArray[np.uint8]:
    """uint8[S, S, 4] over a plain colour: uint8[S, S, 3]."""
    alpha = picture[..., 3:].astype(np.uint16)
    return ((picture[..., :3] * alpha + np.asarray(background, np.uint16) * (255 - alpha) + 127) // 255).astype(
        np.uint8
    )


def recolour(picture: RGBA, colour: str) -> RGBA:
    """The picture with every tint turned to one named hue; greys, blacks and whites stay."""
    hsv = np.asarray(Image.fromarray(picture[..., :3]).convert("HSV")).copy()
    hsv[..., 0] = HUES[colour]
    rgb = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
    return np.concatenate([rgb, picture[..., 3:]], axis=-1)


def tinted(picture: RGBA) -> bool:
    """Whether enough of the picture has a colour that `recolour` can turn: a quarter of what is opaque."""
    hsv = np.asarray(Image.fromarray(picture[..., :3]).convert("HSV"))
    solid = picture[..., 3] > 127
    return bool((hsv[..., 1][solid] > 90).mean() > 0.25) if solid.any() else False


def scatter(
    pictures: list[RGBA], boxes: list[tuple[float, float, float]], background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Each picture at its box (centre x, centre y, side; as shares of the canvas): uint8[S, S, 3]."""
    size = pictures[0].shape[0]
    canvas = Image.new("RGBA", (size, size), (*background, 255))
    for picture, (x, y, side) in zip(pictures, boxes, strict=True):
        pixels = max(1, round(side * size))
        small = Image.fromarray(picture).resize((pixels, pixels), Image.Resampling.LANCZOS)
        canvas.alpha_composite(small, (round(x * size - pixels / 2), round(y * size - pixels / 2)))
    return np.asarray(canvas)[..., :3]


def boxes_of_several(count: int, random: Generator) -> list[tuple[float, float, float]]:
    """Boxes for 2 to 4 equal things: side by side, or four in a square."""
    if count == 4:
        return [(x, y, 0.46) for y in (0.26, 0.74) for x in (0.26, 0.74)]
    if count == 3 and random.random() < 0.5:
        return [(0.5, 0.27, 0.46), (0.26, 0.73, 0.46), (0.74, 0.73, 0.46)]
    side = {2: 0.48, 3: 0.32}[count]
    return [((i + 0.5) / count, 0.5, side) for i in range(count)]


def boxes_of_two(where: str) -> list[tuple[float, float, float]]:
    """Boxes for a first thing `where` of a second."""
    boxes = [(0.26, 0.5, 0.48), (0.74, 0.5, 0.48)]
    if where in ("above", "below"):
        boxes = [(y, x, side) for x, y, side in boxes]
    return boxes if where in ("to the left of", "above") else boxes[::-1]
