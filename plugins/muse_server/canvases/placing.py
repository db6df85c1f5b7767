"""A picture put onto a canvas, on all of it or at a place, where all around it stays."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from muse_server.canvases import moments
from muse_server.refusals import Refusal
from muse_studio.images.reading import on_white, upright
from muse_studio.sampling.editing import deeds
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.region import to_cells


def placed(canvas: Canvas, picture: Image.Image, at: tuple[int, int] | None = None, scale: float | None = None) -> None:
    """Put a picture there: scaled and cut to the canvas's shape, or, given `at` or `scale`, with its corner there.

    at: x and y of its top left corner in pixels. scale: of its own size. Around it tokens stay, those that are erased
    as well; frozen ones no longer are. Refusal where it lies outside.
    """
    if at is None and scale is None:
        canvas.place(picture)
        return
    x, y = at or (0, 0)
    width, height = (max(1, round(side * (scale or 1.0))) for side in picture.size)
    wide, high = canvas.size
    left, top, right, bottom = max(0, x), max(0, y), min(wide, x + width), min(high, y + height)
    if left >= right or top >= bottom:
        raise Refusal(f"at: the picture would lie outside of the canvas, which has {wide}x{high} pixels", "at")
    # Only what is seen is scaled: a small picture, much enlarged, would be larger than memory.
    across, down = picture.width / width, picture.height / height
    seen = ((left - x) * across, (top - y) * down, (right - x) * across, (bottom - y) * down)
    size = (right - left, bottom - top)
    part = on_white(upright(picture)).resize(size, Image.Resampling.LANCZOS, box=seen)
    whole = moments.picture(canvas).copy()
    whole.paste(part, (left, top))
    region = torch.zeros(high, wide, dtype=torch.bool)
    region[top:bottom, left:right] = True
    _place_within(canvas, whole, region)


def _place_within(canvas: Canvas, whole: Image.Image, region: Tensor) -> None:
    """Place what lies in a region bool[H, W] of a picture of the canvas's size."""
    before = canvas.now
    tokens, erased = {}, {}
    for name, codes in moments.copied(canvas).place(whole).now.codes.items():
        outside = ~to_cells(region, (codes.shape[1], codes.shape[2]))[None].to(codes.device)
        erased[name] = before.erased[name] & outside
        tokens[name] = deeds.pack(torch.where(outside & ~erased[name], before.codes[name], codes)[0])
    canvas.play([{"do": "place", "tokens": tokens}])
    if any(bool(grid.any()) for grid in erased.values()):
        canvas.erase({name: deeds.pack(grid[0]) for name, grid in erased.items()})
