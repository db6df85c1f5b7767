"""Compositions: is there as much as was asked for, in the colour that was asked for, and where it was to be?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from muse_tasks.evaluate.shown.objects import centre, cut_out, find_things, look_at, name_colour
from muse_tasks.evaluate.shown.recognition import Judge


class Composition(TypedDict):
    """A canvas of which everything is known.

    kind: what is asked of it, such as "count". image: uint8[3, H, W], the real one. caption: all of it in words.
    things: the names of what is on it, two where they are placed. count: how many there are. colour: that of all of
    them, or None. direction: where the first of two lies of the second, steps to the right and down, or None.
    hues: of each colour that things may have, in degrees, red at 0.
    """

    kind: str
    image: Tensor
    caption: str
    things: list[str]
    count: int
    colour: str | None
    direction: tuple[int, int] | None
    hues: Mapping[str, float]


@runtime_checkable
class Composing(Protocol):
    """What a data set offers for compositions to be measured on."""

    def compositions(self, n: int, seed: int) -> Sequence[Composition]:
        """n of each kind; the same seed gives the same ones, and a larger n begins with those of a smaller."""


def is_right(case: Composition, image: Tensor, judge: Judge) -> bool:
    """Whether a picture uint8[3, H, W] shows all that its kind asks for: count, colour, position.

    Asked for a colour, each thing on it must have that. One thing in a colour may be drawn in several pieces, which are
    taken together.
    """
    canvas = look_at(image)
    things = find_things(canvas)
    if not things:
        return False
    if case["kind"] == "colour":
        things = [torch.stack(things).any(0)]
    counted = len(things) == case["count"]
    colours = {name_colour(canvas, thing, case["hues"]) for thing in things} if case["colour"] else {None}
    direction = case["direction"]
    placed = direction is None or (counted and is_placed(canvas, things, case["things"], direction, judge))
    return counted and colours == {case["colour"]} and placed


def is_placed(
    canvas: Tensor, things: list[Tensor], names: Sequence[str], direction: tuple[int, int], judge: Judge
) -> bool:
    """Whether of two things on int32[3, H, W] the first lies of the second as it should.

    They must lie farther apart along that direction than across it. Which is which the judge says, asked of each by
    itself for these two names alone: together the names must fit better as they should lie than the other way round.
    """
    (x, y), (other_x, other_y) = (centre(thing) for thing in things)
    along, across = (x - other_x, y - other_y) if direction[0] else (y - other_y, x - other_x)
    if abs(along) <= abs(across):
        return False
    known = list(judge.things)
    if not all(name in known for name in names):
        return False
    cut = [judge.scores(cut_out(canvas, thing)[None])[0] for thing in things]
    one, two = ([scores[known.index(name)].item() for name in names] for scores in cut)
    first_is_one = one[0] + two[1] > one[1] + two[0]
    steps = direction[0] or direction[1]
    return (along > 0) == ((steps > 0) == first_is_one)


def by_kind(cases: Sequence[Composition], verdicts: Sequence[bool]) -> dict[str, float]:
    """The share of each kind's cases that are right."""
    kinds = dict.fromkeys(case["kind"] for case in cases)
    found: dict[str, Any] = {kind: [] for kind in kinds}
    for case, right in zip(cases, verdicts, strict=True):
        found[case["kind"]].append(right)
    return {kind: torch.tensor(right).double().mean().item() for kind, right in found.items()}
