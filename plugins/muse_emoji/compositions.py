"""Canvases of which everything is known: how many of a thing, in which colour, and which of two is where."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from muse_emoji import canvas, captions
from muse_emoji.canvas import RGBA
from muse_emoji.pairs import Pair
from muse_studio.errors import UserError
from muse_studio.images.pieces import split_pieces
from muse_studio.images.pixels import from_image

KINDS = ("count", "colour", "position", "count and colour")
DIRECTIONS = {"to the left of": (-1, 0), "to the right of": (1, 0), "above": (0, -1), "below": (0, 1)}
"""By what is said of the first of two things, where it lies of the second: steps to the right, and down."""
VISIBLE = 32
"""Of 255: by how much a channel must differ from white for a pixel to be seen on it."""
HELD = 0.95
"""The share of what is seen on a canvas that its things must hold, each in one piece."""
SMALLEST = 0.4
"""What the smallest thing must have of the largest one's pixels."""
DEGREES = {name: hue * 360 / 256 for name, hue in canvas.HUES.items()}
"""The hue of each colour that a thing may be turned to, red at 0."""


def compose(pairs: list[Pair], pictures: NDArray[np.uint8], rows: list[int], count: int, seed: int) -> list[Any]:
    """So many canvases of each kind, kind after kind in turn, drawn by the seed; see `Emoji.compositions`.

    pictures: uint8[N, S, S, 4], one a pair. rows: those that may be shown. UserError where they give no canvas.
    """
    usable = [row for row in rows if captions.countable(pairs[row]) and not captions.coloured(pairs[row].label)]
    return [
        _case(KINDS[index % len(KINDS)], pairs, pictures, usable, np.random.default_rng([seed, index]))
        for index in range(count * len(KINDS))
    ]


def _case(
    kind: str, pairs: list[Pair], pictures: NDArray[np.uint8], usable: list[int], random: Generator
) -> dict[str, Any]:
    """The first randomly drawn emoji of which such a canvas can be made."""
    for row in random.permutation(usable).tolist():
        if "colour" in kind and not canvas.tinted(pictures[row]):
            continue
        case = (
            _placed(pairs, pictures, usable, row, random)
            if kind == "position"
            else _counted(kind, pairs[row], pictures[row], random)
        )
        if case is not None and stands_apart(case["image"], case["count"]):
            return case | {"kind": kind, "hues": DEGREES}
    raise UserError(
        f"dataset: no canvas of {kind} can be made of its drawings; give more styles, or a higher limit, or a split "
        "that has more"
    )


def _counted(kind: str, pair: Pair, picture: RGBA, random: Generator) -> dict[str, Any]:
    """One thing in a colour, or several, in a colour or in their own."""
    colour = str(random.choice(list(canvas.HUES))) if "colour" in kind else None
    picture = picture if colour is None else canvas.recolour(picture, colour)
    number = 1 if kind == "colour" else int(random.integers(2, 5))
    if number == 1:
        image = canvas.flatten(picture)
        caption = f"{captions.with_article(f'{colour} {pair.label}')}, {pair.style} style"
    else:
        image = canvas.scatter([picture] * number, canvas.boxes_of_several(number, random), canvas.WHITE)
        caption = captions.caption_of_several(pair, number, colour, style=True)
    return _record(image, caption, [pair.label], number, colour=colour)


def _placed(
    pairs: list[Pair], pictures: NDArray[np.uint8], usable: list[int], row: int, random: Generator
) -> dict[str, Any] | None:
    """One thing beside another one of the style; None where there is no other."""
    pair = pairs[row]
    alike = [each for each in usable if pairs[each].style == pair.style and pairs[each].label != pair.label]
    if not alike:
        return None
    other, where = int(random.choice(alike)), str(random.choice(list(DIRECTIONS)))
    image = canvas.scatter([pictures[row], pictures[other]], canvas.boxes_of_two(where), canvas.WHITE)
    names = (pair.label, pairs[other].label)
    return _record(
        image, captions.caption_of_two(names, where, pair.style), list(names), 2, direction=DIRECTIONS[where]
    )


def stands_apart(image: Tensor, count: int) -> bool:
    """Whether uint8[3, S, S] is so many pieces on white, about alike in size, and hardly more: a pair of shoes is two.

    Then pieces can be counted as things. Drawings that fill their whole box touch each other.
    """
    seen = (255 - image.int()).amax(0) >= VISIBLE
    sizes = [int(piece.sum()) for piece in split_pieces(seen)[:count]]
    return len(sizes) == count and sizes[-1] >= SMALLEST * sizes[0] and sum(sizes) >= HELD * int(seen.sum())


def _record(
    image: NDArray[np.uint8],
    caption: str,
    things: list[str],
    count: int,
    colour: str | None = None,
    direction: tuple[int, int] | None = None,
) -> dict[str, Any]:
    return {
        "image": from_image(image),
        "caption": caption,
        "things": things,
        "count": count,
        "colour": colour,
        "direction": direction,
    }
