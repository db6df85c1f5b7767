"""Random numbers for samplers: drawn on the generator's own device, by one generator or by one a picture."""

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
