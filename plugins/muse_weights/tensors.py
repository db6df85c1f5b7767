"""A model's tensors, whatever kind of file they lie in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Tensors:
    """A model's tensors, each read when it is asked for. shapes: by name."""

    shapes: dict[str, list[int]]
    read: Callable[[str], Tensor]

    def without(self, prefixes: tuple[str, ...]) -> Tensors:
        """The same by names that lack these beginnings, each taken off where it is there, in their order."""
        named = {}
        for name in self.shapes:
            short = name
            for prefix in prefixes:
                short = short.removeprefix(prefix)
            named[short] = name
        shapes = {short: self.shapes[name] for short, name in named.items()}
        return Tensors(shapes, lambda short: self.read(named[short]))

    def averaged(self, prefix: str) -> Tensors:
        """The same with each tensor's moving average in its place, "encoder.norm.bias" being <prefix>encodernormbias.

        Where there are averages, what has none is left out: it would be missed. Where there are none, nothing changes.
        """
        named = {name: found for name in self.shapes if (found := prefix + name.replace(".", "")) in self.shapes}
        if not prefix or not named:
            return self
        shapes = {name: self.shapes[found] for name, found in named.items()}
        return Tensors(shapes, lambda name: self.read(named[name]))
