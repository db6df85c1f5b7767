"""What is computed for each picture of a batch alone, where that saves memory and time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def each_picture(compute: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """What `compute` makes of float32[B, n, K], and of others that lead with B; to it no row matters to another.

    On a CPU picture by picture: one's probabilities over the codes stay in its cache, and the next one's take their
    memory, where those of eight pictures of aMUSEd are new pages for the kernel to hand out. Elsewhere all at once.
    """
    if logits.device.type != "cpu":
        return compute(logits, *others)
    return torch.cat([compute(*rows) for rows in zip(*(each.split(1) for each in (logits, *others)), strict=True)])
