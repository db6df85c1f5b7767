"""Regions of a picture: read from a mask or boxes, taken to tokens, and softened at their edges."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from muse_studio.errors import UserError
from muse_studio.images.reading import mask_of, open_mask
from muse_studio.recipe.strangers import is_box

Region: TypeAlias = "str | Sequence[str] | tuple[int, int, int, int] | Image.Image | np.ndarray | Tensor"

WHITE = 128
"""Of 255: what is as light as this is white in a mask."""

_NUMBERS = re.compile(r"[\s\d.,+-]*,[\s\d.,+-]*")


def read_region(given: str | Sequence[str], height: int, width: int) -> Tensor:
    """bool[height, width], True where new pixels go.

    given: a box "x,y,w,h" in pixels of the picture, or the file of a mask picture, white where new pixels go, or opaque
    there where it is not opaque everywhere; or several, which are joined. A box is cut off at the picture's sides; a
    mask of another size is scaled, with a warning. UserError where one lies outside, or where there is nothing white at
    all.
    """
    region = torch.zeros(height, width, dtype=torch.bool)
    for each in [given] if isinstance(given, str) else given:
        region |= _box(each, height, width) if _NUMBERS.fullmatch(each) else _mask(each, height, width)
    if not region.any():
        raise UserError("region: nothing is to change; give a mask that is white somewhere, or a box x,y,w,h")
    return region


def _box(text: str, height: int, width: int) -> Tensor:
    if not is_box(text):
        raise UserError(f"region: {text!r} is no box; give x,y,w,h, four whole numbers of pixels")
    x, y, w, h = map(int, text.split(","))
    region = torch.zeros(height, width, dtype=torch.bool)
    if w < 1 or h < 1:
        raise UserError(f"region: the box {text} has no pixel; give x,y,w,h with w and h of 1 or more")
    region[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)] = True
    if not region.any():
        raise UserError(f"region: the box {text} lies outside the picture, which has {width}x{height} pixels")
    return region


def _mask(address: str, height: int, width: int) -> Tensor:
    return _white(open_mask(address), address, height, width)


def _white(mask: Image.Image, address: str, height: int, width: int) -> Tensor:
    """Where a mask in mode L is white, scaled where it is of another size."""
    if mask.size != (width, height):
        warnings.warn(
            f"region: {address} has {mask.width}x{mask.height} pixels, the picture {width}x{height}; it was scaled",
            stacklevel=3,
        )
        mask = mask.resize((width, height), Image.Resampling.BILINEAR)
    light = np.array(mask)
    region = torch.from_numpy(light >= WHITE)
    if region.all():
        warnings.warn(f"region: {address} is white everywhere; nothing of the picture is kept", stacklevel=3)
    elif 0 < (lightest := light.max()) < WHITE:
        warnings.warn(f"region: {address} chooses nothing: at most {lightest}, and white is from {WHITE}", stacklevel=3)
    return region


def as_region(given: Region, height: int, width: int) -> Tensor:
    """bool[height, width] of what `read_region` reads, of a box (x, y, w, h), a mask picture, or such an array."""
    if isinstance(given, Tensor | np.ndarray):
        region = torch.as_tensor(given).bool()
        if tuple(region.shape) != (height, width):
            raise UserError(f"region: an array of {tuple(region.shape)}, but the picture has {(height, width)}")
        return region
    if isinstance(given, Image.Image):
        return _white(mask_of(given, "region: the mask"), "the mask", height, width)
    if isinstance(given, tuple):
        given = ",".join(map(str, given))
    return read_region(given, height, width)


def to_cells(region: Tensor, grid: tuple[int, int], dilate: int = 0) -> Tensor:
    """bool[..., H, W] to bool[..., h, w]: the cells that a region touches, and `dilate` rings of cells around them.

    A cell is touched by a single pixel. The ring matters: an encoder's field of view
    is wider than its cell, so that the tokens beside a region know what stood in it, and would bring it back.
    """
    return grow(touched(region, grid), dilate)


def touched(region: Tensor, size: tuple[int, int]) -> Tensor:
    """bool[..., H, W] to bool[..., H', W'] of any size over the same area: True where a pixel touches the region."""
    flat = region.reshape(-1, 1, *region.shape[-2:]).float()
    return F.adaptive_max_pool2d(flat, size).view(*region.shape[:-2], *size) > 0


def grow(region: Tensor, rings: int) -> Tensor:
    """bool[..., H, W] with so many rings of pixels around all that is True."""
    if rings == 0:
        return region
    return _slide(F.max_pool2d, region.float(), rings) > 0


def feathered(region: Tensor, width: int) -> Tensor:
    """float32[H, W]: exactly 1 in the region, exactly 0 where it is more than `width` pixels away; 0 is a hard edge.

    Grown by half of the width and averaged over squares of that size, which keeps both ends exact: sums of ones are.
    """
    half = width // 2
    return region.float() if half == 0 else _slide(F.avg_pool2d, grow(region, half).float(), half)


def _slide(pool: Callable[..., Tensor], plane: Tensor, reach: int) -> Tensor:
    """Pooling over squares that reach so far to each side; a picture's border goes on beyond it. One side at a time."""
    flat = plane.reshape(-1, 1, *plane.shape[-2:])
    reach = min(reach, max(plane.shape[-2:]))  # from side to side is as far as anything is
    size = 2 * reach + 1
    flat = pool(F.pad(flat, (0, 0, reach, reach), mode="replicate"), (size, 1), 1)
    flat = pool(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), (1, size), 1)
    return flat.view_as(plane)
