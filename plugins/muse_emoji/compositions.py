"""Canvases of which everything is known: how many of a thing, in which colour, and which of two is where."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from muse_emoji import canvas, captions
from muse_emoji.pairs import Pair
from muse_studio.errors import UserError
from muse_studio.images.pieces import split_pieces
from muse_studio.images.pixels import from_image

KINDS = ("count", "colour", "position", "count and colour")
DIRECTIONS = {"to the left of": (-1, 0), "to the right of": (1, 0), "above": (0, -1), "below": (0, 1)}
"""By what is said of the first of two things, where it lies of the second: steps to the right, and down."""
WHOLE = 0.95
"""The share of a drawing in its largest piece from which it can be counted by its pieces."""
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
        pair, picture = pairs[row], pictures[row]
        if not whole(picture) or ("colour" in kind and not canvas.tinted(picture)):
            continue
        if kind == "position":
            alike = [each for each in usable if pairs[each].style == pair.style and pairs[each].label != pair.label]
            other = next((each for each in random.permutation(alike).tolist() if whole(pictures[each])), None)
            if other is None:
                continue
            where = str(random.choice(list(DIRECTIONS)))
            image = canvas.scatter([picture, pictures[other]], canvas.boxes_of_two(where), canvas.WHITE)
            caption = captions.caption_of_two((pair.label, pairs[other].label), where, pair.style)
            return _record(kind, image, caption, [pair.label, pairs[other].label], 2, direction=DIRECTIONS[where])
        colour = str(random.choice(list(canvas.HUES))) if "colour" in kind else None
        picture = picture if colour is None else canvas.recolour(picture, colour)
        made = partial(_record, kind, things=[pair.label], colour=colour)
        if kind == "colour":
            caption = f"{captions.with_article(f'{colour} {pair.label}')}, {pair.style} style"
            return made(canvas.flatten(picture), caption, count=1)
        number = int(random.integers(2, 5))
        image = canvas.scatter([picture] * number, canvas.boxes_of_several(number, random), canvas.WHITE)
        return made(image, captions.caption_of_several(pair, number, colour, style=True), count=number)
    raise UserError(
        f"dataset: no canvas of {kind} can be made of its drawings; give more styles, or a higher limit, or a split "
        "that has more"
    )


def whole(picture: NDArray[np.uint8]) -> bool:
    """Whether uint8[S, S, 4] is one piece, so that as many pieces are as many things; a pair of shoes is not."""
    solid = torch.from_numpy(picture[..., 3] > 127)
    pieces = split_pieces(solid)
    return bool(pieces) and bool(pieces[0].sum() >= WHOLE * solid.sum())


def _record(
    kind: str,
    image: NDArray[np.uint8],
    caption: str,
    things: list[str],
    count: int,
    colour: str | None = None,
    direction: tuple[int, int] | None = None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "image": from_image(image),
        "caption": caption,
        "things": things,
        "count": count,
        "colour": colour,
        "direction": direction,
        "hues": DEGREES,
    }
