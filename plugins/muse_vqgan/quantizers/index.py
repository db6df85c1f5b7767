"""A learned codebook whose every code learns at every step: the gradient goes through the choice itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Quantized
from muse_vqgan.quantizers.entropy import ENTROPY_TEMPERATURE, entropy_loss


@dataclass
class IndexBackpropagation:
    """Index backpropagation (IBQ, Shi et al., 2024, 2412.02692): a code wins by its dot product with the latent.

    Pictures are those of the winner, but the choice has the gradient of the softmax, so that every code learns at every
    step. It holds a number for each place and code.
    """

    def __call__(self, size: int, width: int) -> IBQ:
        """The module of so many codes of that width."""
        return IBQ(size, width)


class IBQ(nn.Module):
    """What `ibq` makes."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size, self.width = size, width
        self.codes = nn.Parameter(torch.randn(size, width) / math.sqrt(width))

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, D, h, w]."""
        return F.embedding(tokens, self.codes).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, D, h, w] to int64[B, h, w]."""
        return self._logits(latents).argmax(-1)

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, D, h, w]; the losses are those of the paper's section 3.2."""
        latents = latents.float()
        logits = self._logits(latents)
        tokens = logits.argmax(-1)
        found, soft = self.lookup(tokens), logits.softmax(-1)
        choice = soft + (F.one_hot(tokens, self.size) - soft).detach()
        chosen = (choice @ self.codes).movedim(-1, 1)
        chosen = chosen + (found - chosen).detach()  # to the bit, whatever the sums round
        losses = {
            "commitment": F.mse_loss(latents, found.detach()),
            "codebook": F.mse_loss(found, latents.detach()) + F.mse_loss(chosen, latents),
        }
        if entropy:
            losses["entropy"] = entropy_loss(logits.flatten(0, -2) / ENTROPY_TEMPERATURE)
        return Quantized(chosen, tokens, losses)

    def _logits(self, latents: Tensor) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):  # bfloat16 would confuse near logits
            return latents.float().movedim(1, -1) @ self.codes.t()
