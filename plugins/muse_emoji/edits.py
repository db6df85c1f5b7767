"""Pairs of pictures that differ in one thing alone, with captions that say which: the exact truth about an edit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from muse_emoji import canvas, captions
from muse_emoji.pairs import Pair
from muse_studio.errors import UserError
from muse_studio.images.pixels import from_image

KINDS = ("colour", "object", "background")
CANDIDATES = 7
"""Values that the changed attribute takes in one case, before and after among them: as many as there are hues."""
TRIES = 1000


def compose_edits(pairs: list[Pair], pictures: NDArray[np.uint8], rows: list[int], count: int, seed: int) -> list[Any]:
    """So many cases, kind after kind in turn, drawn by the seed; see `Emoji.edits` for what one is.

    pictures: uint8[N, S, S, 4], one a pair. rows: those that may be shown. UserError where they give no case.
    """
    usable = [row for row in rows if captions.countable(pairs[row]) and not captions.coloured(pairs[row].label)]
    return [
        _case(KINDS[index % 3], pairs, pictures, usable, np.random.default_rng([seed, index])) for index in range(count)
    ]


def _case(
    kind: str, pairs: list[Pair], pictures: NDArray[np.uint8], usable: list[int], random: Generator
) -> dict[str, Any]:
    """The first randomly drawn emoji of which such a case can be made, in all its `CANDIDATES` forms."""
    for row in random.choice(usable, TRIES) if usable else ():
        pair, picture = pairs[row], pictures[row]
        if kind == "colour" and canvas.tinted(picture):
            hues = random.permutation(list(canvas.HUES)).tolist()
            shown = [canvas.flatten(canvas.recolour(picture, hue)) for hue in hues]
            nouns = [captions.with_article(f"{hue} {pair.label}") for hue in hues]
        elif kind == "object":
            alike = [each for each in usable if pairs[each].style == pair.style and pairs[each].label != pair.label]
            if len(alike) < CANDIDATES - 1:
                continue
            things = [row, *random.choice(alike, CANDIDATES - 1, replace=False)]
            ground = random.choice(list(canvas.BACKGROUNDS))
            shown = [canvas.flatten(pictures[each], canvas.BACKGROUNDS[ground]) for each in things]
            nouns = [
                f"{captions.with_article(pairs[each].label)} on {captions.with_article(ground)} background"
                for each in things
            ]
        elif kind == "background":
            grounds = random.permutation(list(canvas.BACKGROUNDS))[:CANDIDATES].tolist()
            shown = [canvas.flatten(picture, canvas.BACKGROUNDS[ground]) for ground in grounds]
            nouns = [
                f"{captions.with_article(pair.label)} on {captions.with_article(ground)} background"
                for ground in grounds
            ]
        else:
            continue
        before, after, *others = (from_image(each) for each in shown)
        prompts = [f"{noun}, {pair.style} style" for noun in nouns[:2]]
        return {
            "kind": kind,
            "before": before,
            "after": after,
            "others": torch.stack(others),
            "prompt_before": prompts[0],
            "prompt_after": prompts[1],
        }
    raise UserError(
        f"dataset: no edit of {kind} can be made of its drawings; give more styles, or a higher limit, or a split "
        "that has more"
    )
