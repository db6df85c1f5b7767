"""The quantizer spherical: signs of latents on a sphere (binary spherical quantization, Zhao et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from muse_studio.contracts import Quantized
from torch import Tensor, nn


@dataclass(frozen=True)
class Spherical:
    """Each code is a corner of a cube that lies on the unit sphere, where the latents are put too.

    beta: the weight of the loss that draws latents to their corners.
    """

    beta: float = 0.25

    def __call__(self, size: int, width: int) -> Corners:
        """The module; as many latents as bits, whatever the width."""
        if size < 2 or size & (size - 1):
            raise ValueError(f"codebook_size is {size}; spherical takes a power of two")
        return Corners(size.bit_length() - 1, self.beta)


class Corners(nn.Module):
    """The codebook itself, which has no weights."""

    def __init__(self, bits: int, beta: float) -> None:
        super().__init__()
        self.width, self.beta = bits, beta

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, bits, h, w], of unit length along the bits."""
        bits = tokens.unsqueeze(1) >> torch.arange(self.width, device=tokens.device).view(-1, 1, 1) & 1
        return (bits * 2.0 - 1) / self.width**0.5

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, bits, h, w] to int64[B, h, w]."""
        powers = 2 ** torch.arange(self.width, device=latents.device).view(-1, 1, 1)
        return ((latents > 0) * powers).sum(1)

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """The corners, through which the decoder's gradient passes as it comes."""
        tokens, unit = self.tokens(latents), F.normalize(latents.float(), dim=1)
        found = self.lookup(tokens)
        losses = {"spherical": self.beta * F.mse_loss(unit, found)}
        return Quantized(unit + (found - unit).detach(), tokens, losses)
