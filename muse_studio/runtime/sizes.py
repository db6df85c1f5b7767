"""A model's sizes, as the shapes of its published tensors show them; ValueError where ours can't be like that."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count


def how_many(name: str, shapes: Mapping[str, list[int]]) -> int:
    """How many tensors there are of that name, {} standing for 0, 1, 2 ..."""
    return next(number for number in count() if name.format(number) not in shapes)


def square_grid(positions: int, front: int = 0) -> list[int]:
    """The grid [side, side] of a table of positions, the first `front` of which are a class's."""
    side = round(max(positions - front, 0) ** 0.5)
    if side < 1 or side**2 != positions - front:
        behind = " and of a class in front of it" if front else ""
        raise ValueError(f"positions of a square grid{behind}: it has {positions}")
    return [side, side]


def heads_of(width: int, known: Mapping[int, int]) -> int:
    """How many heads a layer of that width has, which no shape shows: by the published widths."""
    if width not in known:
        raise ValueError(f"one of the known widths {', '.join(map(str, known))}: it has {width}")
    return known[width]


def multipliers(channels: int, wide: list[int]) -> list[int]:
    """By what the channels of each level are a multiple of those at full resolution."""
    if not wide or any(each % channels for each in wide):
        raise ValueError(f"levels whose channels are multiples of {channels}")
    return [each // channels for each in wide]
