"""Edits of which the right result is known, as a data set offers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypedDict, runtime_checkable

from torch import Tensor


class EditCase(TypedDict):
    """One picture, and the same with one attribute changed.

    kind: the attribute, such as "colour". before, after: uint8[3, H, W]. others: uint8[C, 3, H, W], the same picture
    with further values of the attribute, which an edit that misses may come nearer to. prompt_before, prompt_after:
    captions of the two.
    """

    kind: str
    before: Tensor
    after: Tensor
    others: Tensor
    prompt_before: str
    prompt_after: str


@runtime_checkable
class Editable(Protocol):
    """What a data set offers for edits to be measured on."""

    def edits(self, n: int, seed: int) -> Sequence[EditCase]:
        """n cases; the same seed gives the same ones, and a larger n begins with those of a smaller."""
