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
