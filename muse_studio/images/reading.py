"""Picture files of any kind, as the 8 bits of red, green and blue that models know."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from muse_studio.errors import UserError, in_one_line, words_of
from muse_studio.images.pixels import from_image
from muse_studio.runtime.files import path_of

_ORIENTATION = 0x0112  # Exif 2.32, table 4
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to undo how a camera was held, by EXIF's orientation."""
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}
"""Pillow's modes of the spaces that colour profiles are for (ICC.1:2022, table 19)."""


class UnknownWhite(ValueError):
    """Nothing says which of a picture's numbers is white."""


def upright(opened: Image.Image, name: str = "a picture") -> Image.Image:
    """A picture of any mode in mode RGBA and the colours of sRGB, turned as its camera was held (EXIF).

    16 bits of grey are scaled to 8, other numbers by the range that they fill, palettes, CMYK and the like converted,
    and what has no transparency is opaque. Without its EXIF or colour profile where that is broken, with a warning that
    says `name`. UnknownWhite where grey could be of any range; a damaged picture raises what pillow's readers have.
    """
    opened.load()  # a PNG may have its EXIF at its end
    picture = _turned(opened, name)
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = _grey(picture, opened.format)
    result = _in_srgb(picture, opened.info.get("icc_profile"), name) or picture.convert("RGBA")
    result.info.clear()  # profile and EXIF no longer hold, and pillow would write them
    return result


def _turned(opened: Image.Image, name: str) -> Image.Image:
    try:
        orientation = opened.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # pillow's reader raises whatever a broken block leads it to
        warnings.warn(f"{name} has EXIF that can't be read ({in_one_line(error)}); it is not turned", stacklevel=3)
        return opened
    if isinstance(orientation, int) and orientation in _TURNS:
        return opened.transpose(_TURNS[orientation])
    if orientation not in (0, 1):  # many programs write 0 where they don't know
        told = repr(orientation)[:40]
        warnings.warn(f"{name} has the orientation {told}, and EXIF knows 1 to 8; it is not turned", stacklevel=3)
    return opened


def _grey(picture: Image.Image, kind: str | None) -> Image.Image:
    """Grey of more than 8 bits in mode L, which pillow would cut off at 255 instead of scaling."""
    values = np.asarray(picture)
    lowest, highest = (values.min(), values.max()) if values.size else (0, 0)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind == "PPM"):  # which pillow scales to 65535
        white = 65535
    elif picture.mode == "F" and 0 <= lowest <= highest <= 1:
        white = 1
    elif 0 <= lowest <= highest <= 65535 and (values == np.round(values)).all():
        white = 255 if highest <= 255 else 65535
    else:
        raise UnknownWhite(
            f"grey of {'fractions' if picture.mode == 'F' else '32 bits'} from {lowest:g} to {highest:g}, of which "
            "nothing says how much is white; save it as 8 or 16 bits, or as fractions from 0 to 1"
        )
    return Image.fromarray((values.clip(0, white) * (255 / white)).round().astype(np.uint8))


def _in_srgb(picture: Image.Image, profile: bytes | None, name: str) -> Image.Image | None:
    """The picture in mode RGBA and sRGB, None where no colour profile that is of use says it were anything else."""
    if not profile:
        return None
    from PIL import ImageCms  # here: few pictures have a profile

    seen = picture if picture.mode in ("L", "CMYK", "LAB") else picture.convert("RGBA").convert("RGB")
    if picture.mode in ("1", "LA"):
        seen = picture.convert("L")
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if (space := _SPACES.get(given.profile.xcolor_space)) == "RGB" and seen.mode == "L":
            seen = seen.convert("RGB")
        if space != seen.mode:
            raise ValueError(f"it is for {given.profile.xcolor_space.strip()}, the picture is {picture.mode}")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), space, "RGB", intent)
        if space == "RGB" and _changes_nothing(transform):
            return None
        colours = ImageCms.applyTransform(seen, transform)
    except Exception as error:  # littleCMS and pillow raise whatever a broken profile leads them to
        told = words_of(error)
        warnings.warn(f"{name} has a colour profile that can't be used ({told}); it is taken as sRGB", stacklevel=3)
        return None
    assert colours is not None  # it is None in place alone
    colours.putalpha(picture.convert("RGBA").getchannel("A"))
    return colours


def _changes_nothing(transform: Any) -> bool:
    """Whether a transform keeps all colours but for rounding: pixels of sRGB are then kept to the bit."""
    from PIL import ImageCms

    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3)
    turned = ImageCms.applyTransform(Image.fromarray(cube), transform)
    return bool(abs(np.asarray(turned).astype(int) - cube).max() <= 1)


def on_white(picture: Image.Image) -> Image.Image:
    """A picture of mode RGBA in mode RGB, what is transparent lying on white."""
    return Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture).convert("RGB")


def open_picture(address: str, setting: str = "picture") -> Image.Image:
    """A picture file in mode RGB; UserError, naming the `setting`, where it is none, is damaged, or is too large.

    Of a picture that moves, the first frame, with a warning; what is transparent lies on white, with a warning.
    """
    path = path_of(address)
    picture = _read(path, setting, upright)
    if np.asarray(picture)[..., 3].min() < 255:
        warnings.warn(f"{setting}: {path} is transparent in places, which are taken as white", stacklevel=2)
    return on_white(picture)


def open_mask(address: str, setting: str = "region") -> Image.Image:
    """The file of a mask, as `mask_of` takes it; refused as `open_picture` refuses."""
    return _read(path_of(address), setting, mask_of)


def mask_of(opened: Image.Image, name: str = "the mask") -> Image.Image:
    """A mask of any mode in mode L, white where it chooses.

    It goes by its opacity where it is not opaque everywhere: strokes on a transparent layer of a paint program are
    chosen, and so is the hole that was erased from a picture, which is opaque in most of its corners. Else it goes by
    how light it is; where nothing is above 1, as in masks of other libraries, 1 is white. A warning says where it did
    not go by its light alone.
    """
    drawn = upright(opened, name)
    if (opacity := drawn.getchannel("A")).getextrema() != (255, 255):
        return _by_opacity(opacity, name)
    light = on_white(drawn).convert("L")
    numbers = _turned(opened, name) if opened.mode.startswith("I") else light
    if (held := np.asarray(numbers)).max(initial=0) != 1 or opened.mode == "F":
        return light
    warnings.warn(f"{name} holds 0 and 1 in place of 0 and 255; 1 is taken as white", stacklevel=2)
    return Image.fromarray(np.where(held == 1, 255, 0).astype(np.uint8))


def _by_opacity(opacity: Image.Image, name: str) -> Image.Image:
    """What a mask chooses by its opacity alone, with a warning that says which half it is."""
    right, bottom = opacity.width - 1, opacity.height - 1
    corners = np.asarray(opacity)[[0, 0, bottom, bottom], [0, right, 0, right]]
    hole = (corners >= 128).sum() > 2
    chosen, kept = ("transparent", "opaque") if hole else ("opaque", "transparent")
    warnings.warn(
        f"{name} is transparent in places; what is {chosen} in it counts as white, what is {kept} as black",
        stacklevel=3,
    )
    return Image.eval(opacity, lambda value: 255 - value) if hole else opacity


def _read(path: Path, setting: str, take: Callable[[Image.Image, str], Image.Image]) -> Image.Image:
    """What is taken of a picture's file; what is warned of on the way names it."""
    name = f"{setting}: {path}"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        picture = _attempt(path, name, take)
    for text in dict.fromkeys(str(each.message) for each in heard if issubclass(each.category, UserWarning)):
        warnings.warn(text if text.startswith(name) else f"{name}: {' '.join(text.split())}", stacklevel=3)
    return picture


PROGRAMS = {"EPS", "WMF"}
"""Formats that pillow has another program draw, such as Ghostscript, which would run what a stranger wrote."""


@cache
def readable() -> tuple[str, ...]:
    """The formats that pillow reads by itself, as it is installed here."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - PROGRAMS))


def opened(file: Path | BinaryIO) -> Image.Image:
    """A picture as pillow opens it, whatever its name ends in; UnidentifiedImageError where that is not `readable`."""
    return Image.open(file, formats=readable())


def _attempt(path: Path, name: str, take: Callable[[Image.Image, str], Image.Image]) -> Image.Image:
    try:
        with opened(path) as picture:
            if (frames := getattr(picture, "n_frames", 1)) > 1:
                warnings.warn(f"{name} has {frames} frames; the first is taken", stacklevel=2)
            return take(picture, name)
    except FileNotFoundError as error:
        setting = name.partition(":")[0]
        raise UserError(f"{setting}: there is no file {path}; give the path of a picture") from error
    except IsADirectoryError as error:
        raise UserError(f"{name} is a folder; give the file of a picture") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is no picture that pillow can read; give a PNG, JPEG or WebP") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(f"{name} has more than {most:,} pixels; give one that is scaled down") from error
    except UnknownWhite as error:
        raise UserError(f"{name} is {error}") from error
    except Exception as error:  # pillow's readers raise whatever a damaged file leads them to
        raise UserError(f"{name} can't be read to its end ({words_of(error)}); give another copy of it") from error


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
