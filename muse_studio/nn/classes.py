"""What stands for a class: its states are one number a class, 1 at its own."""

from __future__ import annotations

from torch import Tensor

from muse_studio.contracts import TextEmbedding


def class_weights(text: TextEmbedding) -> tuple[Tensor, Tensor]:
    """How much of each class B texts ask for, float[B, C], and bool[B, 1]: whether they ask for any.

    Of several positions the mean counts, so that one position a class gives a mixture; a row whose mask is all False is
    zero.
    """
    counts = text.mask[..., None]
    asked = text.states.masked_fill(~counts, 0).sum(1) / counts.sum(1).clamp(min=1)
    return asked, text.mask.any(1, keepdim=True)
