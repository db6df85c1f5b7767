"""A model's layers, as what they are: torch's ModuleList says of each no more than that it is a module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


def layer_list(layers: Iterable[Layer]) -> Sequence[Layer]:
    """An `nn.ModuleList` of them, whose type says what is in it."""
    return cast("Sequence[Layer]", nn.ModuleList(layers))
