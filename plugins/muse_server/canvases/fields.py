"""The fields of an action: what a client's value must be, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from muse_server.canvases.regions import area
from muse_server.refusals import Refusal
from muse_server.settings import check_values
from muse_studio.images.naming import is_unicode
from muse_studio.sampling.arguments import LARGEST_SEED

LONGEST = 2000
"""Letters of a prompt."""
MOST = 16
"""Pictures of one action."""
FARTHEST = 8192
"""Pixels that a side may grow by, and that a picture may be placed away from the corner."""
SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Surface:
    """What an action is read against: a canvas as it is.

    size: width and height in pixels. grids: rows and columns of each stage, the first one first. moments: how many
    actions it has, done and undone. pictures: those that were dropped, by id.
    """

    size: tuple[int, int]
    grids: Mapping[str, tuple[int, int]]
    moments: int = 0
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)


def _text(name: str) -> Callable[[object, Surface], str]:
    def read(value: object, on: Surface) -> str:
        if not isinstance(value, str) or len(value) > LONGEST or not is_unicode(value):
            raise Refusal(f"{name}: expected a text of at most {LONGEST} letters", name)
        return value

    return read


def number(value: object, name: str, least: int, most: int) -> int:
    """A whole number; Refusal, naming it, where it is none of that range."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Refusal(f"{name}: expected a whole number from {least} to {most}", name)
    return value


def _number(name: str, least: int, most: int) -> Callable[[object, Surface], int]:
    return lambda value, on: number(value, name, least, most)


def _staged(value: object, on: Surface) -> bool:
    if not isinstance(value, bool):
        raise Refusal("staged: expected true or false", "staged")
    return value


def _settings(value: object, on: Surface) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(each, Mapping) for each in value.values()):
        raise Refusal('settings: expected a table by stage, such as {"base": {"sampler": {"steps": 8}}}', "settings")
    check_values(value, "settings")
    return dict(value)


def _editor(value: object, on: Surface) -> Any:
    if not isinstance(value, str | Mapping):
        raise Refusal("editor: expected the name of one, or its table", "editor")
    check_values(value, "editor")
    return value


def _picture(value: object, on: Surface) -> Image.Image:
    if not isinstance(value, str) or value not in on.pictures:
        raise Refusal("picture: there is none of that id any more; drop it once again", "picture")
    return on.pictures[value]


def _at(value: object, on: Surface) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise Refusal("at: expected [x, y], two whole numbers of pixels", "at")
    x, y = (number(each, "at", -FARTHEST, FARTHEST) for each in value)
    return x, y


def _scale(value: object, on: Surface) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 100:
        raise Refusal("scale: expected a number from 0.01 to 100", "scale")
    return float(value)


def _to(value: object, on: Surface) -> int:
    return number(value, "to", 0, on.moments)


FIELDS: dict[str, Callable[[Any, Surface], Any]] = {
    "prompt": _text("prompt"),
    "negative": _text("negative"),
    "seed": _number("seed", 0, LARGEST_SEED),
    "count": _number("count", 1, MOST),
    "settings": _settings,
    "staged": _staged,
    "editor": _editor,
    "region": lambda value, on: area(value, on.grids, on.pictures),
    "picture": _picture,
    "at": _at,
    "scale": _scale,
    "to": _to,
    **{side: _number(side, 0, FARTHEST) for side in SIDES},
}
"""How each field becomes a value."""
