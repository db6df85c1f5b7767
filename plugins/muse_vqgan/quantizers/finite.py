"""Rounded numbers: no codebook is learned, and none can collapse."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from muse_studio.contracts import Quantized


@dataclass
class Finite:
    """Finite scalar quantization: each latent is bounded and rounded to a few levels (Mentzer et al., 2024).

    levels: of each latent; their product is the number of codes, such as [8, 5, 5, 5] for 1000.
    """

    levels: list[int] = field(default_factory=list)

    def __call__(self, size: int, width: int) -> FSQ:
        """The module of so many codes; as many latents as levels, whatever the width."""
        return FSQ(size, self.levels)


class FSQ(nn.Module):
    """What `fsq` makes."""

    levels: Tensor
    basis: Tensor

    def __init__(self, size: int, levels: list[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 2 or math.prod(levels) != size:
            raise ValueError(
                f"levels {levels} make {math.prod(levels)} codes, codebook_size is {size}; fsq needs both equal, "
                "levels of 2 or more, such as [8, 5, 5, 5] for 1000"
            )
        self.size, self.width = size, len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer(
            "basis", torch.tensor([math.prod(levels[:i]) for i in range(len(levels))]), persistent=False
        )

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, levels, h, w] in -1..1."""
        digits = (tokens.unsqueeze(-1) // self.basis) % self.levels
        return ((digits - self._half) / self._half).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, levels, h, w] to int64[B, h, w]."""
        return ((self._bound(latents).round() + self._half).long() * self.basis).sum(-1)

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, levels, h, w]; no losses are needed."""
        bounded = self._bound(latents)
        rounded = bounded + (bounded.round() - bounded).detach()
        tokens = ((bounded.detach().round() + self._half).long() * self.basis).sum(-1)
        return Quantized((rounded / self._half).movedim(-1, 1), tokens, {})

    @property
    def _half(self) -> Tensor:
        return torch.div(self.levels, 2, rounding_mode="floor")

    def _bound(self, latents: Tensor) -> Tensor:
        """float[B, levels, h, w] to float[B, h, w, levels] within the levels, centred (listing of appendix A.1)."""
        reach = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / reach)
        return torch.tanh(latents.float().movedim(1, -1) + shift) * reach - offset
