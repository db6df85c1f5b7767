"""What samplers ask in their tests: a model whose every answer depends on all that it is told."""

from __future__ import annotations

import torch
from torch import Tensor


class Model:
    """Logits float[B, h, w, codes] that depend on every token, on the place and on progress.

    normal: they are log-probabilities. progress: what it was asked at, call by call.
    """

    def __init__(self, seed: int, places: int, codes: int, normal: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.place = torch.randn(places, codes, generator=generator) * 2
        self.code = torch.randn(codes + 1, codes, generator=generator)
        self.normal = normal
        self.progress: list[float] = []

    def __call__(self, tokens: Tensor, progress: float) -> Tensor:
        self.progress.append(progress)
        neighbours = self.code[tokens.flatten(1) + 1]  # MASK has row 0
        mixed = self.place * (0.5 + progress) + neighbours.roll(1, 1) + neighbours.mean(1, keepdim=True)
        return (mixed.log_softmax(-1) if self.normal else mixed).view(*tokens.shape, -1)
