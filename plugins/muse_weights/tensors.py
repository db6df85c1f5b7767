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
