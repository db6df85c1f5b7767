"""How often a model guesses right, in all and by how much was hidden."""

from __future__ import annotations

import torch
from torch import Tensor

from muse_studio.contracts import Batch

BUCKETS = 4
"""Accuracy is logged for so many equal ranges of the share of tokens that are hidden."""

SHARE = "share"
"""What the noise of an objective calls what `by_share` made."""


def by_share(hidden: Tensor, counted: Tensor) -> Tensor:
    """What one right guess of each picture weighs in each range's accuracy: float32[N, BUCKETS].

    hidden: bool[N, h, w]; counted: bool[N, h, w], the tokens that are guessed. NaN for a range that no picture is in.
    """
    bucket = (hidden.flatten(1).sum(-1) / hidden[0].numel() * BUCKETS).ceil().long() - 1
    member = torch.arange(BUCKETS) == bucket.unsqueeze(-1)
    return member / (member * counted.flatten(1).sum(-1, keepdim=True)).sum(0)


def accuracy(right: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The share of tokens guessed right, of float[B] of each picture, and that of each range of `by_share`."""
    shares = (right.unsqueeze(-1) * batch.noise[SHARE]).sum(0) * (batch.pictures / len(right))
    names = [f"accuracy {100 * n // BUCKETS}-{100 * (n + 1) // BUCKETS}%" for n in range(BUCKETS)]
    return dict(zip(names, shares.unbind(), strict=True))
