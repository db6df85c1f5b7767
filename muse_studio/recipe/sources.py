"""Where a recipe's text comes from: a file, a shipped recipe, or a picture that carries one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from muse_studio.errors import UserError, listed, near, words_of
from muse_studio.runtime.files import path_of

if TYPE_CHECKING:
    from PIL import Image

    from muse_studio.recipe.tree import Node

PICTURE_KEY = "muse_recipe"
"""What a picture's metadata calls its resolved recipe, which is YAML.

A PNG has it as a text chunk of that key. A WebP knows no keys: there it is Exif's user comment, after "muse_recipe: ".
"""

WEIGHTS_KEY = "muse_weights"
"""What a PNG calls the weights that it was drawn with: a line each, "stages.base.transformer ADDRESS sha256:HEX"."""

MAGIC = (b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8\xff", b"GIF8")
"""How picture files begin: PNG, WebP, and those that can carry no recipe here, JPEG and GIF."""

LARGEST = 1 << 20
"""Bytes of a recipe; what is larger was named by mistake."""

_EXIF, _USER_COMMENT = 0x8769, 0x9286  # Exif 2.32, tables 3 and 8
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"EXIF", b"XMP ")  # chunks of PNG and WebP that hold what is read here
_UNICODE = b"UNICODE\0"  # a user comment's character code; UTF-16, big endian as in the other generators' files


def webp_exif(text: str) -> Image.Exif:
    """A recipe as the `exif` to save a WebP with."""
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(_EXIF)[_USER_COMMENT] = _UNICODE + f"{PICTURE_KEY}: {text}".encode("utf-16-be")
    return exif


def recipe_text(path: Path) -> str:
    """The recipe that a picture carries; UserError where it carries none or can't be read."""
    return read_picture(path).content


class Text(NamedTuple):
    """A recipe's text. `weights`: of a picture, what it says it was drawn with; None where this is no picture."""

    content: str
    weights: str | None = None


@dataclass(frozen=True)
class Picture:
    """What a recipe takes from a picture: `root`, as it stands there, and the picture's lines of its `weights`."""

    path: Path
    root: Node
    weights: str


def read_picture(path: Path) -> Text:
    """The recipe that a picture carries, and its lines of weights; UserError as `recipe_text`."""
    from PIL import Image
    from PIL.PngImagePlugin import PngImageFile

    text, told = None, ""
    try:
        if _may_carry_one(path):
            with Image.open(path, formats=("PNG", "WEBP")) as picture:
                if isinstance(picture, PngImageFile):
                    text, told = picture.text.get(PICTURE_KEY), picture.text.get(WEIGHTS_KEY, "")
                else:
                    text = user_comment(picture)
    except UserError:
        raise
    except Exception as error:  # pillow's readers raise whatever a damaged file leads them to
        raise UserError(f"{path} can't be read as a picture: {words_of(error)}; give another copy of it") from error
    if text is None:
        raise UserError(
            f"{path} is a picture without a recipe in its metadata ({PICTURE_KEY}); give a picture that muse has made "
            "and that no other program has saved since, or a recipe in YAML"
        )
    if len(text.encode(errors="replace")) > LARGEST:
        raise _too_large(path)
    return Text(str(text), str(told))


def _may_carry_one(path: Path) -> bool:
    """Whether a file is a PNG or a WebP; UserError where its text is larger than a recipe can be, of which nothing is
    read then.
    """
    with path.open("rb") as file:
        start = file.read(12)
        png, webp = start.startswith(MAGIC[0]), start.startswith(MAGIC[1])
        if not png and not webp:
            return False
        most = LARGEST + 1024 if png else 2 * LARGEST + 1024  # a WebP's text is UTF-16
        file.seek(8 if png else 12)
        while len(head := file.read(8)) == 8:
            size, name = (head[:4], head[4:]) if png else (head[4:], head[:4])
            length = int.from_bytes(size, "big" if png else "little")
            if name in _TEXTS and length > most:
                raise _too_large(path)
            file.seek(length + (4 if png else length % 2), os.SEEK_CUR)
    return True


def _too_large(path: Path) -> UserError:
    return UserError(
        f"{shown(path)} carries a text of more than {LARGEST} bytes, so it is no recipe; give another copy of the "
        "picture, or a recipe in YAML"
    )


def user_comment(picture: Image.Image) -> str | None:
    """The recipe that a WebP carries as `webp_exif` has it, None where it carries none."""
    comment = picture.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b"")
    if not isinstance(comment, bytes) or not comment.startswith(_UNICODE):
        return None
    key, found, text = comment.removeprefix(_UNICODE).decode("utf-16-be").partition(": ")
    return text if found and key == PICTURE_KEY else None


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


def text_of(path: Path) -> Text:
    """The recipe that a file holds, or a picture carries; UserError where it can't be read."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{shown(path)} can't be read: {error.strerror}") from error
    if content.startswith(MAGIC):
        return read_picture(path)
    if len(content) > LARGEST:
        raise UserError(f"{shown(path)} is larger than {LARGEST} bytes, so it is no recipe")
    try:
        return Text(content.decode("utf-8-sig"))
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
