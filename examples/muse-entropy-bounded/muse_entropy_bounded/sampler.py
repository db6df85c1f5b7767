"""The sampler eb-sampler: as many tokens a step as can be drawn at once without much harm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from muse_studio.contracts import MASK, MaskSchedule, Predict
from muse_studio.sampling.noise import choose
from torch import Tensor


@dataclass(frozen=True)
class EntropyBounded:
    """EB-Sampler (Ben-Hamu et al. 2025): in each step the largest set U with sum H - max H <= gamma, surest first.

    H is the entropy of a token's distribution, in nats; U is a prefix of the masked places in the order of H. Tokens of
    one step are drawn independently of each other, and sum H - max H bounds what that can lose. One token at least is
    filled, so that gamma 0 fills one at a time, and all that the model is certain of.

    The schedule is not asked: how many are filled is the model's to say, for each picture by itself. When all are
    full, the remaining steps yield the finished grid and ask for nothing.

    gamma: the bound, in nats. steps: at most so many; the last one fills all that is left.
    temperature: of the codes and of H: the logits are divided by it.
    """

    gamma: float = 8.0
    steps: int = 32
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma is {self.gamma}; give 0 (one token a step) or more")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give 1 or more")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; give more than 0")

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it, the last without MASK."""
        for step in range(1, self.steps + 1):
            masked = tokens == MASK
            if masked.any():
                logits = predict(tokens, step / self.steps).float() / self.temperature
                uniform = torch.rand(tokens.shape, generator=generator, device=generator.device).to(tokens.device)
                gamma = self.gamma if step < self.steps else math.inf
                tokens = torch.where(chosen(entropy(logits), masked, gamma), choose(logits, uniform), tokens)
            yield tokens


def entropy(logits: Tensor) -> Tensor:
    """float32[..., K] to the entropy of their softmax in nats, float32[...]."""
    chances = logits.softmax(-1)
    return -torch.xlogy(chances, chances).sum(-1)


def chosen(entropies: Tensor, masked: Tensor, gamma: float) -> Tensor:
    """float32[B, h, w] and bool[B, h, w] to bool[B, h, w]: the masked places to fill now.

    In the order of their entropy, those up to which sum - max <= gamma. As the order rises, the largest of a prefix is
    its last, so that the sum without it is that of all before; it never falls, so that none fits behind one that
    doesn't.
    """
    ordered, order = entropies.masked_fill(~masked, math.inf).flatten(1).sort(dim=1, stable=True)
    before = ordered.cumsum(1).roll(1, 1)
    before[:, 0] = 0  # the surest is always filled
    return torch.zeros_like(masked).flatten(1).scatter(1, order, before <= gamma).view_as(masked) & masked
