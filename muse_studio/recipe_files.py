"""Where recipes are found, and how their text is read."""

from __future__ import annotations

import os
from pathlib import Path

from muse_studio.errors import UserError
from muse_studio.files import path_of
from muse_studio.picture import MAGIC, recipe_text
from muse_studio.problems import listed, near

LARGEST = 1 << 20
"""Bytes of a recipe; what is larger was named by mistake."""


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name: "generate", "models/emoji"."""
    here = Path(__file__).parent
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
