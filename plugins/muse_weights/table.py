"""What a dialect's table is made of, and how names and shapes are held against it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Settings = Mapping[str, Any]
Change = Literal["", "linear", "flat", "transposed", "convolution", "to_heads", "from_heads"]

CHANGES: dict[Change, Callable[[Tensor], Tensor]] = {
    "": lambda tensor: tensor,
    "linear": lambda tensor: tensor.squeeze(-1).squeeze(-1),
    "flat": lambda tensor: tensor.flatten(),
    "transposed": lambda tensor: tensor.transpose(0, 1),
    "convolution": lambda tensor: tensor.permute(3, 2, 0, 1),
    "to_heads": lambda tensor: tensor.flatten(1).transpose(0, 1),
    "from_heads": lambda tensor: tensor.flatten(0, 1).transpose(0, 1),
}
"""What becomes of a tensor: nothing; a 1x1 convolution's to a linear layer's; one axis alone; rows for columns.

The last three are for flax: a convolution [height, width, in, out], linear layers [in, heads, d] and [heads, d, out].
"""


@dataclass(frozen=True)
class Rule:
    """One line of a table: a tensor whose whole name matches becomes ours.

    pattern: a regular expression. name: ours, with \\1 and so on for what the pattern's groups found.
    change: what becomes of its numbers, by CHANGES.
    block: several tensors may have one name of ours, and are then stacked along the first axis in this order.
    """

    pattern: str
    name: str
    change: Change = ""
    block: int = 0


@dataclass(frozen=True)
class Found:
    """What a piece's settings are read from: its config.json, its tensors' shapes, JSON files that were read before."""

    config: Settings
    shapes: Mapping[str, list[int]]
    told: Mapping[str, Settings]


@dataclass(frozen=True)
class Piece:
    """One file of weights of a dialect, and the part of ours that it is for.

    name: "transformer". file: what is written, transformer.safetensors by default.
    folder, weights: its folder in the source, "" at the top, and its file, in one or in shards, "" where the source is
        itself a file.
    kind, part: "transformer", "amused".
    rules: the first that matches counts. drop: patterns of names that are left out, and why that is right.
    averages: what the names of moving averages begin with, the rest being a tensor's name without its dots; where there
        are any, they are taken in the tensors' places.
    copies: names that are left out as they hold what another name holds, by that name; checked.
    expected: what config.json must say, and what all of ours say too, so that they are no settings.
    defaults: what config.json means where it says nothing.
    settings: our part's; LookupError where config.json lacks one, ValueError where ours can't be like that.
    places: where modules stand in our part, by the names that the rules give them, where that depends on its depth.
    home: an address of its own, where it is published apart from the rest.
    unwrap: under which keys of a file the tensors lie; the first that is there counts.
    prefixes: what names may begin with, one after the other, and says nothing, such as torch.compile's "_orig_mod.".
    starts: tensors of ours that no file has, and the number that they are filled with.
    made: tensors of ours that no file has, and that the dialect makes of other files.
    shapes: the tensors of ours, from config.json, where the part itself is not made to be asked.
    """

    name: str
    kind: str
    part: str
    weights: str
    rules: tuple[Rule, ...]
    settings: Callable[[Found], dict[str, Any]]
    folder: str = ""
    file: str = ""
    drop: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    expected: Settings = field(default_factory=dict)
    defaults: Settings = field(default_factory=dict)
    places: Callable[[Settings], Mapping[str, str]] | None = None
    home: str = ""
    unwrap: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    averages: str = ""
    starts: Mapping[str, float] = field(default_factory=dict)
    made: tuple[str, ...] = ()
    shapes: Callable[[Settings], dict[str, list[int]]] | None = None

    @property
    def written(self) -> str:
        """The file of ours."""
        return self.file or f"{self.name}.safetensors"


@dataclass(frozen=True)
class Origin:
    """Where a part of one of our tensors comes from: a name in the source, and the rule that says so."""

    name: str
    rule: Rule


@dataclass
class Match:
    """How a source's names fit a table. origins: by our names, in the order in which they are stacked."""

    origins: dict[str, list[Origin]]
    dropped: list[str]
    unknown: list[str]


def match(names: Iterable[str], piece: Piece, settings: Settings) -> Match:
    """Every name of the source by the table: what it becomes, or that it is left out, or that no line knows it."""
    found = Match({}, [], [])
    places = None if piece.places is None else piece.places(settings)
    for name in names:
        if name in piece.copies or any(re.fullmatch(pattern, name) for pattern in piece.drop):
            found.dropped.append(name)
            continue
        rule, ours = _ours(name, piece.rules)
        if ours is not None and places is not None:
            ours = _placed(ours, places)
        if rule is None or ours is None:
            found.unknown.append(name)
        else:
            found.origins.setdefault(ours, []).append(Origin(name, rule))
    for origins in found.origins.values():
        origins.sort(key=lambda origin: origin.rule.block)
    return found


def _ours(name: str, rules: tuple[Rule, ...]) -> tuple[Rule | None, str | None]:
    for rule in rules:
        if (found := re.fullmatch(rule.pattern, name)) is not None:
            return rule, found.expand(rule.name)
    return None, None


def _placed(name: str, places: Mapping[str, str]) -> str | None:
    """A name whose module has another place in our part; None where our part has no such module."""
    module = max((module for module in places if name.startswith(f"{module}.")), key=len, default=None)
    return None if module is None else places[module] + name.removeprefix(module)


def differences(found: Match, shapes: Mapping[str, list[int]], wanted: Mapping[str, list[int]]) -> dict[str, list[str]]:
    """What does not fit, by what is wrong with it; `wanted` are the shapes of our part, `shapes` those of the source.

    Two tensors that would fill the same place of ours are as wrong as none.
    """
    unlike, twice = [], []
    for name, origins in found.origins.items():
        if len({origin.rule.block for origin in origins}) < len(origins):
            twice.append(f"{name} from each of {', '.join(origin.name for origin in origins)}")
        elif name in wanted and (shape := _shape(origins, shapes)) != wanted[name]:
            given = ", ".join(f"{origin.name} {shapes[origin.name]}" for origin in origins)
            unlike.append(f"{given} makes {shape}, and {name} is {wanted[name]}")
    unknown = found.unknown + [
        f"{o.name} (as {name})" for name, os in found.origins.items() if name not in wanted for o in os
    ]
    return {
        "not used": unknown,
        "missing": [name for name in wanted if name not in found.origins],
        "of another shape": unlike,
        "given twice": twice,
    }


def _shape(origins: list[Origin], shapes: Mapping[str, list[int]]) -> list[int]:
    """The shape that tensors have once they are changed and stacked; [] where they can't be."""
    try:
        changed = [CHANGES[each.rule.change](torch.empty(shapes[each.name], device="meta")) for each in origins]
    except (IndexError, RuntimeError):  # of fewer or more axes than the rule changes
        return []
    if len({tuple(each.shape[1:]) for each in changed}) > 1 or (len(changed) > 1 and not changed[0].ndim):
        return []
    return [sum(each.shape[0] for each in changed), *changed[0].shape[1:]] if changed[0].ndim else []


def made(origins: list[Origin], read: Callable[[str], Tensor]) -> Tensor:
    """One tensor of ours, from what `read` gives by the source's names."""
    changed = [CHANGES[each.rule.change](read(each.name)) for each in origins]
    return changed[0] if len(changed) == 1 else torch.cat(changed)
