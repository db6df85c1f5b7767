"""Pictures of what is not finished yet: few enough that drawing is hardly slower for them."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from muse_studio.contracts import MASK
from muse_studio.images.pixels import to_images
from muse_studio.sampling.previews import previews
from muse_studio.sampling.stage import Stage

A_SECOND = 12
"""Previews that are made a second, at most."""
SHARE = 0.1
"""The part of the time that goes by for previews, at most, where each of them takes long."""
LARGEST_PNG = 256
"""Pixels of the longer side up to which a PNG is sent; a larger picture is a WebP, which is smaller by then."""


class Throttle:
    """Says when a preview may be made: `A_SECOND` at most, and no more than a share of the time goes by for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = -math.inf

    def due(self, always: bool = False) -> bool:
        """Whether one may be made now."""
        return always or self._clock() >= self._next

    @contextmanager
    def making(self) -> Iterator[None]:
        """Around the making of one."""
        begun = self._clock()
        yield
        self._next = begun + max(1 / A_SECOND, (self._clock() - begun) / SHARE)


def preview(stage: Stage, tokens: Tensor, former: Tensor) -> Image.Image:
    """A grid int64[1, h, w] with MASK as a picture, in which masked cells are grey.

    former: int64[1, h, w], what the decoder is given there: it bleeds into the cells beside.
    """
    filled = torch.where(tokens == MASK, former.clamp(min=0), tokens)
    with torch.inference_mode():
        return to_images(next(previews(stage, [tokens, filled])))[0]


def shown_steps(stages: Mapping[str, Stage], name: str, grids: list[Tensor]) -> list[Image.Image]:
    """All steps int64[1, h, w] of a stage as pictures; a known cell looks from the first as in the finished one."""
    last = grids[-1]
    with torch.inference_mode():
        return [to_images(each)[0] for each in previews(stages[name], [*grids[:-1], last.clamp(min=0)])]


def data_url(image: Image.Image) -> str:
    """A picture as the address that holds it."""
    file = io.BytesIO()
    if max(image.size) <= LARGEST_PNG:
        kind = "png"
        image.save(file, "PNG", compress_level=1)
    else:
        kind = "webp"
        image.save(file, "WEBP", quality=90, method=0)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def bits(grid: Tensor) -> str:
    """bool[1, h, w] as base64 of its bits, row by row, the most significant first."""
    return base64.b64encode(np.packbits(grid[0].cpu().numpy()).tobytes()).decode()


def known(tokens: Tensor) -> str:
    """The places of int64[1, h, w] that are no MASK, as `bits`."""
    return bits(tokens != MASK)
