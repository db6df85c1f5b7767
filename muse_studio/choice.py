"""One code for each place by lot: what samplers and the training of a critic draw alike."""

from __future__ import annotations

import torch
from torch import Tensor


def choose(logits: Tensor, uniform: Tensor) -> Tensor:
    """float32[..., K] and float32[...] in 0..1 (1 excluded) to codes int64[...] of the softmax's chances.

    By inverting the cumulated probabilities: one random number a place, where the Gumbel trick needs K of them (33
    million for 64x64 places and 8,192 codes, drawn on the CPU).
    """
    cumulated = logits.softmax(-1).cumsum(-1)
    # By the whole as it was rounded: torch.rand's greatest, 1 - 2^-24, then stays below it in float32 too, and the code
    # found is one that has some probability.
    thresholds = uniform[..., None] * cumulated[..., -1:]
    if logits.device.type == "cpu":  # the same by bisection, as a CPU adds up from one end: the sums never fall
        return torch.searchsorted(cumulated, thresholds, right=True).squeeze(-1)
    return (cumulated <= thresholds).sum(-1)
