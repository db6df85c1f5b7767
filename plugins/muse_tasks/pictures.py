"""Pictures to PNG files: written whole or not at all, never over another file, each with its recipe inside."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from muse_studio.errors import UserError
from muse_studio.picture import PICTURE_KEY
from muse_studio.tree import to_yaml

PLUGINS_KEY = "muse_plugins"
SOFTWARE = "muse_studio"
"""PNG text keys: the plugins and their versions, and what the standard keyword "Software" holds."""


def to_bytes(pixels: Tensor) -> Tensor:
    """float[..., 3, H, W] in 0..1 to uint8 of the same shape: a picture as it is saved."""
    return (pixels.clamp(0, 1) * 255).round().byte()


def to_images(pixels: Tensor) -> list[Image.Image]:
    """float[B, 3, H, W] in 0..1, or uint8[B, 3, H, W], to B pictures of 8 bits a channel."""
    channels = pixels if pixels.dtype == torch.uint8 else to_bytes(pixels)
    return [Image.fromarray(picture) for picture in channels.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def provenance(recipe: dict[str, Any] | None, plugins: dict[str, str] | None) -> PngInfo:
    """PNG text from which `muse run picture.png` draws the picture again; without a recipe, the software alone."""
    text = PngInfo()
    text.add_text("Software", SOFTWARE)
    if recipe is not None:
        text.add_itxt(PICTURE_KEY, to_yaml(recipe))
    if plugins is not None:
        text.add_itxt(PLUGINS_KEY, "\n".join(f"{name} {version}" for name, version in sorted(plugins.items())))
    return text


def save_new(image: Image.Image, path: Path, text: PngInfo | None = None) -> Path:
    """Write a PNG to `path`, or to `path` numbered from 2 where that exists: apple.png, apple-2.png.

    Returns the path that it took. Raises UserError where the disk refuses.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        image.save(aside, "PNG", pnginfo=text)
        taken = _claim(path)
        os.replace(aside, taken)
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror or error}; make room, or give another place as out"
        ) from error
    finally:
        with suppress(OSError):  # it was renamed, or there was no folder to write it to
            aside.unlink()
    return taken


def _claim(path: Path) -> Path:
    """The first free name, made as an empty file so that nobody else takes it; a link would do, but FAT has none."""
    number = 1
    while True:
        name = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            name.open("xb").close()
            return name
        except FileExistsError:
            number += 1
