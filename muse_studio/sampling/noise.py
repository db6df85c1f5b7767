"""Random numbers for samplers, by one generator or by one a picture, and codes drawn by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """One generator a picture: in a batch, each picture gets the numbers that it would get if it were drawn alone."""

    generators: Sequence[torch.Generator]

    @classmethod
    def seeded(cls, seeds: Sequence[int]) -> Rows:
        """Those of pictures with these seeds, on the CPU."""
        return cls([torch.Generator().manual_seed(seed) for seed in seeds])


def uniform(generator: torch.Generator | Rows, *shape: int, rows: int, to: torch.device) -> Tensor:
    """float32[*shape] in 0..1, 1 excluded, on the device `to`; dimension `rows` counts the pictures."""
    if isinstance(generator, Rows):
        alone = [1 if dimension == rows else size for dimension, size in enumerate(shape)]
        numbers = torch.cat([torch.rand(alone, generator=one, device=one.device) for one in generator.generators], rows)
    else:
        numbers = torch.rand(shape, generator=generator, device=generator.device)
    if to.type == "cuda" and numbers.device.type == "cpu":
        return numbers.pin_memory().to(to, non_blocking=True)  # from other memory, CUDA would wait for what runs
    return numbers.to(to)


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
