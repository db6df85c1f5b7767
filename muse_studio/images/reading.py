"""Picture files of any kind, as the 8 bits of red, green and blue that models know."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from muse_studio.errors import UserError, words_of
from muse_studio.images.pixels import from_image
from muse_studio.runtime.files import path_of


def upright(opened: Image.Image) -> Image.Image:
    """A picture of any mode in mode RGBA, turned as its camera was held (EXIF).

    16 bits of grey are scaled to 8, palettes, CMYK and the like converted, and what has no transparency is opaque. A
    damaged picture raises what pillow's readers have for it.
    """
    picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I"):  # 16 bits of grey, which pillow would cut off at 255 instead of scaling
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8))
    return picture.convert("RGBA")


def on_white(picture: Image.Image) -> Image.Image:
    """A picture of mode RGBA in mode RGB, what is transparent lying on white."""
    return Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture).convert("RGB")


def open_picture(address: str, setting: str = "picture") -> Image.Image:
    """A picture file in mode RGB; UserError, naming the `setting`, where it is none, is damaged, or is too large.

    Of a picture that moves, the first frame, with a warning; what is transparent lies on white, with a warning.
    """
    path = path_of(address)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice its size is refused below
        picture = _read(path, setting)
    if np.asarray(picture)[..., 3].min() < 255:
        warnings.warn(f"{setting}: {path} is transparent in places, which are taken as white", stacklevel=2)
    return on_white(picture)


def _read(path: Path, setting: str) -> Image.Image:
    try:
        with Image.open(path) as opened:
            if (frames := getattr(opened, "n_frames", 1)) > 1:
                warnings.warn(f"{setting}: {path} has {frames} frames; the first is taken", stacklevel=3)
            return upright(opened)
    except FileNotFoundError as error:
        raise UserError(f"{setting}: there is no file {path}; give the path of a picture") from error
    except IsADirectoryError as error:
        raise UserError(f"{setting}: {path} is a folder; give the file of a picture") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{setting}: {path} is no picture that pillow can read; give a PNG, JPEG or WebP") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(f"{setting}: {path} has more than {most:,} pixels; give one that is scaled down") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UserError(
            f"{setting}: {path} can't be read to its end ({words_of(error)}); give another copy of it"
        ) from error


def to_tensor(pictures: Image.Image | str | Path | Sequence[Image.Image | str | Path]) -> Tensor:
    """A picture, or a list of pictures of one size, to float32[B, 3, H, W] in 0..1, which all of muse_studio takes.

    A picture is pillow's, or a file's path. It is turned upright, and lies on white where it is transparent. TypeError
    where it is something else, ValueError where there is none or the sizes differ, UserError where a file can't be
    read.
    """
    several: list[Any] = list(pictures) if isinstance(pictures, list | tuple) else [pictures]
    if not several:
        raise ValueError("the list of pictures is empty; give at least one")
    pixels = [from_image(_opened(each)) for each in several]
    if len(sizes := {(each.shape[2], each.shape[1]) for each in pixels}) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise ValueError(f"the pictures are of several sizes, {shown}; make them equal by picture.resize((128, 128))")
    return torch.stack(pixels).float() / 255


def _opened(picture: Image.Image | str | Path) -> Image.Image:
    if isinstance(picture, str | Path):
        return open_picture(str(picture))
    if not isinstance(picture, Image.Image):
        raise TypeError(f"expected a picture of pillow or a file's path, got {type(picture).__name__}")
    return on_white(upright(picture))
