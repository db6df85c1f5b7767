"""A linear layer whose greatest logit is the code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from muse_studio.contracts import Quantized
from muse_vqgan.quantizers.entropy import entropy_loss


@dataclass
class Projecting:
    """A linear layer gives each latent a logit a code; the greatest wins (DALL-E's dVAE, Ramesh et al., 2021)."""

    def __call__(self, size: int, width: int) -> Projected:
        """The module of so many codes of that width."""
        return Projected(size, width)


class Projected(nn.Module):
    """What `projected` makes.

    Trained straight through: the pictures are those of the winners, the gradient that of the codes' mean by softmax.
    (Published ones were trained with Gumbel noise on the logits.) There is no loss of its own but the entropy.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size, self.width = size, width
        self.project = nn.Linear(width, size)
        self.codes = nn.Parameter(torch.randn(size, width) / math.sqrt(width))

    @property
    def classifier(self) -> nn.Linear:
        """The layer whose rows are codes."""
        return self.project

    def lookup(self, tokens: Tensor) -> Tensor:
        """int64[B, h, w] to float[B, D, h, w]."""
        return nn.functional.embedding(tokens, self.codes).movedim(-1, 1)

    def tokens(self, latents: Tensor) -> Tensor:
        """float[B, D, h, w] to int64[B, h, w]."""
        return self.project(latents.float().movedim(1, -1)).argmax(-1)

    def forward(self, latents: Tensor, entropy: bool = False) -> Quantized:
        """float[B, D, h, w]; the entropy loss is costly."""
        with torch.autocast(latents.device.type, enabled=False):  # bfloat16 would confuse near logits
            logits = self.project(latents.float().movedim(1, -1))
        tokens = logits.argmax(-1)
        mean = (logits.softmax(-1) @ self.codes).movedim(-1, 1)
        losses = {"entropy": entropy_loss(logits.flatten(0, -2))} if entropy else {}
        return Quantized(mean + (self.lookup(tokens) - mean).detach(), tokens, losses)
