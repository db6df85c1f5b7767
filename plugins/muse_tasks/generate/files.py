"""Pictures to PNG and WebP files: whole or not at all, never over another file, each saying where it comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from muse_studio.images.provenance import Provenance
from muse_studio.runtime.files import unwritable


def save_new(image: Image.Image, path: Path, provenance: Provenance, *, endings: Sequence[str] = ()) -> Path:
    """Write a PNG to `path`, or to `path` numbered from 2 where that exists: apple.png, apple-2.png.

    endings: of the files that are to stand `beside` it; a number at which one of them exists is passed over.
    Returns the path that it took. Raises UserError where the disk refuses.
    """
    return _save_new(path, endings, lambda aside: image.save(aside, "PNG", pnginfo=provenance.png()))


def save_animation(
    images: Sequence[Image.Image], milliseconds: Sequence[int], path: Path, provenance: Provenance
) -> Path:
    """Write pictures of one size, each to be seen for so long, to a WebP that loops for ever and loses no pixel.

    Numbered, returned and refused as in `save_new`.
    """
    return _save_new(
        path,
        (),
        lambda aside: images[0].save(
            aside,
            "WEBP",
            save_all=True,
            append_images=images[1:],
            duration=list(milliseconds),
            loop=0,
            lossless=True,
            # How hard to look for a smaller file: of 9 frames of 512 x 512 pixels, this takes 0.2 s on one core for
            # 747 KiB, pillow's default of 80 and 4 takes 5 s for 652 KiB.
            quality=0,
            method=0,
            **provenance.webp(),
        ),
    )


def beside(path: Path, ending: str) -> Path:
    """The name of what goes with a picture: apple-2.png and "-steps.png" give apple-2-steps.png."""
    return path.with_name(path.stem + ending)


def _save_new(path: Path, endings: Sequence[str], write: Callable[[Path], None]) -> Path:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(aside)
        taken = _claim(path, endings)
        os.replace(aside, taken)
    except OSError as error:
        raise unwritable(path, error, "make room, or give another place as out") from error
    finally:
        with suppress(OSError):  # it was renamed, or there was no folder to write it to
            aside.unlink()
    return taken


def _claim(path: Path, endings: Sequence[str]) -> Path:
    """The first free name, made as an empty file so that nobody else takes it; a link would do, but FAT has none."""
    number = 1
    while True:
        name = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not any(beside(name, ending).exists() for ending in endings):
            with suppress(FileExistsError):
                name.open("xb").close()
                return name
        number += 1
