"""How a published file's names and shapes are held against a dialect's table, and its tensors become ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from muse_studio.runtime.dialects import Change, Piece, Rule, Settings

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


@dataclass
class Tensors:
    """A model's tensors, each read when it is asked for.

    shapes: by name. strange: what stands where a tensor might, by name, as it can't be read. notes: what a user should
    know of how they were found, a sentence each.
    """

    shapes: dict[str, list[int]]
    read: Callable[[str], Tensor]
    strange: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def named(self, names: Mapping[str, str], *notes: str) -> Tensors:
        """The same by other names, those in `names` being today's by the new ones; all else is left out."""
        shapes = {new: self.shapes[old] for new, old in names.items() if old in self.shapes}
        strange = {new: self.strange[old] for new, old in names.items() if old in self.strange}
        return Tensors(shapes, lambda new: self.read(names[new]), strange, self.notes + notes)

    def averaged(self, prefix: str) -> Tensors:
        """The same with each tensor's moving average in its place, "encoder.norm.bias" being <prefix>encodernormbias.

        Where there are averages, what has none is left out: it would be missed. Where there are none, nothing changes.
        """
        named = {name: found for name in self.shapes if (found := prefix + name.replace(".", "")) in self.shapes}
        if not prefix or not named:
            return self
        return self.named(named)


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


def wanted(
    piece: Piece, part: Callable[..., torch.nn.Module], settings: Settings, config: Settings
) -> dict[str, list[int]]:
    """The shapes of our part's tensors, those left out that no published file has."""
    if piece.shapes is not None:
        return piece.shapes(config)
    shapes = shapes_of(part, settings)
    return {name: shape for name, shape in shapes.items() if name not in piece.starts and name not in piece.made}


def shapes_of(part: Callable[..., torch.nn.Module], settings: Settings) -> dict[str, list[int]]:
    """The shapes of a part's tensors by name, made without memory; TypeError or ValueError where it refuses."""
    with torch.device("meta"):
        module = part(**settings)
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
