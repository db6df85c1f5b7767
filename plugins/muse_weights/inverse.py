"""A table read the other way: our tensors become the published ones again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from muse_studio.runtime.dialects import Change, Piece, Rule, Settings

GROUP = re.compile(r"\([^()]*\)")
"""A group of a rule's pattern; none lies in another."""

UNDONE: dict[Change, Callable[[Tensor], Tensor]] = {
    "": lambda tensor: tensor,
    "linear": lambda tensor: tensor[..., None, None],
    "flat": lambda tensor: tensor[None, None, None],
    "transposed": lambda tensor: tensor.transpose(0, 1),
}
"""What CHANGES did, undone, in dialects that are exported; what was flat had four axes, as diffusers' response norm."""


def published(name: str, tensor: Tensor, piece: Piece, settings: Settings) -> dict[str, Tensor]:
    """The tensors that became ours, by the source's names; none where no line of the table makes one of that name.

    What was stacked was of equal sizes, in every dialect.
    """
    found = {}
    for candidate in _candidates(name, piece, settings):
        for rule in piece.rules:
            if (theirs := _name(rule, candidate)) is not None:
                found[rule.block] = (theirs, rule)
        if found:
            break
    if not found:
        return {}
    parts = zip(sorted(found.items()), tensor.chunk(len(found)), strict=True)
    return {theirs: UNDONE[rule.change](part).contiguous() for (_, (theirs, rule)), part in parts}


def _candidates(name: str, piece: Piece, settings: Settings) -> Iterator[str]:
    """Names that tables may give to what our part calls `name`."""
    if piece.places is None:
        yield name
        return
    places: Mapping[str, str] = piece.places(settings)
    for module, place in places.items():
        if name.startswith(f"{place}."):
            yield module + name.removeprefix(place)


def _name(rule: Rule, ours: str) -> str | None:
    """What a rule makes `ours` from, or None."""
    groups = GROUP.findall(rule.pattern)
    parts = re.split(r"\\(\d)", rule.name)
    wanted = "".join(
        f"(?P<g{part}>{groups[int(part) - 1][1:-1]})" if odd % 2 else re.escape(part) for odd, part in enumerate(parts)
    )
    if (found := re.fullmatch(wanted, ours)) is None:
        return None
    given = iter(range(1, len(groups) + 1))
    return GROUP.sub(lambda _: found[f"g{next(given)}"], rule.pattern).replace("\\.", ".")
