"""Adaptive decoding: as many tokens a step as can be drawn at once without much harm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import MASK, MaskSchedule, Predict
from muse_studio.sampling.filling import ask, at, spread, uniforms
from muse_studio.sampling.settings import Codes, each_picture


@dataclass
class EntropyBounded(Codes):
    """EB-Sampler (Ben-Hamu et al., 2025, 2505.24857, equation 8): each step fixes a set of low shared entropy.

    With H the entropy of a masked place's codes in nats, a step takes places in the order of H, surest first, as long
    as their sum of H less the largest stays within `bound`: tokens of one step are drawn for themselves, and that
    bounds what their dependence can lose. One at least is fixed, so 0 fixes one a step, and all that the model is
    certain of.

    How many are fixed is the model's to say, for each picture by itself; the mask schedule is not asked. When all are
    fixed, the remaining steps yield the finished grid and ask nothing.

    bound: in nats. The embedded model's 64 places take 62 steps at 1, 34 at 4, 21 at 8, 12 at 16 (means of 16 prompts).
    steps: at most so many; the last one fixes all that is left.
    spread: nats, up to so many of which are added to each H by lot before they are put in order. Places of like entropy
        are often neighbours, which depend on each other; so they come from all over the grid. 0 is the paper's order.
    sampling_temperature: of the codes, and of H; above 0. top_k, top_p: of the codes alone.
    """

    steps: int = 32
    bound: float = 8.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.bound < math.inf:
            raise ValueError(f"bound is {self.bound}; give 0 nats (one token a step) or more")
        if not 0 <= self.spread < math.inf:
            raise ValueError(f"spread is {self.spread}; give 0 nats (the order of the entropies) or more")
        given = self.sampling_temperature
        if min(given if isinstance(given, list) else [given]) <= 0:
            raise ValueError(f"sampling_temperature is {given}; where nothing is left to chance, no entropy is")

    @torch.no_grad()
    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        for step in range(self.steps):
            progress = (step + 1) / self.steps
            lots, shuffle = uniforms(2, tokens, generator)  # whether used or not, as others of the run come after them
            masked = tokens == MASK
            if most := int(masked.flatten(1).sum(1).max()):  # waits for the device: what is asked depends on it
                count = most if getattr(predict, "placewise", False) else tokens[0].numel()
                logits, places = ask(predict, tokens, progress, count)
                drawn = spread(self.draw(logits, at(lots, places), progress), places, tokens)
                entropies = spread(entropy(logits / self.code_temperature(progress)), places, lots)
                bound = self.bound if step + 1 < self.steps else math.inf
                chosen = surest(entropies, masked, bound, entropies + self.spread * shuffle)
                tokens = torch.where(chosen, drawn, tokens)
            yield tokens


def entropy(logits: Tensor) -> Tensor:
    """float32[B, n, K] to the entropy of their softmax in nats, float32[B, n]."""
    return each_picture(lambda rows: torch.special.entr(rows.softmax(-1)).sum(-1), logits)


def surest(entropies: Tensor, masked: Tensor, bound: float, order: Tensor | None = None) -> Tensor:
    """float32[B, h, w] and bool[B, h, w] to bool[B, h, w]: the masked places to fix now.

    order: float32[B, h, w], by which they are taken, that of the entropies by default. The sum of the first n without
    the largest of them never falls as n grows, so that none fits behind one that does not.
    """
    queue = (
        (entropies if order is None else order).masked_fill(~masked, math.inf).flatten(1).argsort(dim=1, stable=True)
    )
    ordered = entropies.masked_fill(~masked, 0.0).flatten(1).gather(1, queue).double()
    shared = ordered.cumsum(1) - ordered.cummax(1).values
    return torch.zeros_like(masked).flatten(1).scatter(1, queue, shared <= bound).view_as(masked) & masked
