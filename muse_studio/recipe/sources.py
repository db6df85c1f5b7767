"""Where a recipe's text comes from: a file, a shipped recipe, or a picture that carries one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from muse_studio.errors import UserError, listed, near
from muse_studio.runtime.files import path_of

if TYPE_CHECKING:
    from PIL import Image

PICTURE_KEY = "muse_recipe"
"""What a picture's metadata calls its resolved recipe, which is YAML.

A PNG has it as a text chunk of that key. A WebP knows no keys: there it is Exif's user comment, after "muse_recipe: ".
"""

MAGIC = (b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8\xff", b"GIF8")
"""How picture files begin: PNG, WebP, and those that can carry no recipe here, JPEG and GIF."""

_EXIF, _USER_COMMENT = 0x8769, 0x9286  # Exif 2.32, tables 3 and 8
_UNICODE = b"UNICODE\0"  # a user comment's character code; UTF-16, big endian as in the other generators' files


def webp_exif(text: str) -> Image.Exif:
    """A recipe as the `exif` to save a WebP with."""
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(_EXIF)[_USER_COMMENT] = _UNICODE + f"{PICTURE_KEY}: {text}".encode("utf-16-be")
    return exif


def recipe_text(path: Path) -> str:
    """The recipe that a picture carries; UserError where it carries none or can't be read."""
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    try:
        with Image.open(path) as picture:
            text = picture.text.get(PICTURE_KEY) if isinstance(picture, PngImageFile) else _user_comment(picture)
    except Exception as error:  # pillow's readers raise whatever a damaged file leads them to
        told = str(error) or type(error).__name__
        raise UserError(f"{path} can't be read as a picture: {told}; give another copy of it") from error
    if text is None:
        raise UserError(
            f"{path} is a picture without a recipe in its metadata ({PICTURE_KEY}); give a picture that muse has made "
            "and that no other program has saved since, or a recipe in YAML"
        )
    return str(text)


def _user_comment(picture: Image.Image) -> str | None:
    comment = picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b"")
    if not isinstance(comment, bytes) or not comment.startswith(_UNICODE):
        return None
    key, found, text = comment.removeprefix(_UNICODE).decode("utf-16-be").partition(": ")
    return text if found and key == PICTURE_KEY else None


LARGEST = 1 << 20
"""Bytes of a recipe; what is larger was named by mistake."""


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name: "generate", "models/emoji"."""
    here = Path(__file__).parents[1]
    folder = next((each for each in (here / "recipes", here.parent / "recipes") if each.is_dir()), here)
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find(name: str, folder: Path) -> Path:
    """The file that a recipe's name means, seen from `folder`; UserError with what is near where there is none."""
    path, known = folder / path_of(name), shipped()
    if path.suffix and os.path.isfile(path):  # unlike Path's own, it takes a name of any length
        return path
    if (short := name.removesuffix(".yaml")) in known:
        return known[short]
    if os.path.isdir(path):
        raise UserError(f"{name or '.'} is a folder; name a recipe in it, or one of {listed(known)}")
    if os.path.exists(path):
        return path
    raise UserError(
        f"there is no recipe {name!r}, neither as a file ({shown(path)}) nor among those that are shipped;"
        f"{near(short, known)} available: {listed(known)}"
    )


def text_of(path: Path) -> str:
    """The recipe that a file holds, or a picture carries; UserError where it can't be read."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{shown(path)} can't be read: {error.strerror}") from error
    if content.startswith(MAGIC):
        return recipe_text(path)
    if len(content) > LARGEST:
        raise UserError(f"{shown(path)} is larger than {LARGEST} bytes, so it is no recipe")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{shown(path)}:{line}  this is not UTF-8 text; save it as UTF-8. A recipe is YAML, or a PNG or WebP "
            "picture that muse has made"
        ) from error


def shown(path: Path) -> str:
    """A path as short as it can be told: from here where it lies below."""
    whole, here = path.resolve(), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else path)
