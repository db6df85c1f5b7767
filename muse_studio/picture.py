"""Recipes inside of pictures: where they are kept, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from muse_studio.errors import UserError

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
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} can't be read as a picture: {error}; give another copy of it") from error
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
