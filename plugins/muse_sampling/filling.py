"""The loop that samplers share: guess every masked token, score the places, mask the lowest again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from muse_sampling.settings import Codes
from muse_studio.contracts import MASK, MaskSchedule, Predict


class Guess(NamedTuple):
    """What one step makes of a grid, for its places to be scored by.

    logits: float32[B, h, w, K], of the grid as it was before the step.
    codes: int64[B, h, w], that grid with a code drawn for every MASK.
    new: bool[B, h, w], where that is.
    uniform: float32[B, h, w] in 0..1 (1 excluded), one random number a place, for noise.
    progress: (i + 1) / T at step i of T.
    """

    logits: Tensor
    codes: Tensor
    new: Tensor
    uniform: Tensor
    progress: float


@torch.no_grad()
def fill(
    sampler: Codes,
    predict: Predict,
    tokens: Tensor,
    schedule: MaskSchedule,
    generator: torch.Generator,
    score: Callable[[Guess], Tensor],
    revise: bool = False,
) -> Iterator[Tensor]:
    """int64[B, h, w] with MASK where a token is wanted; yields `sampler.steps` grids like it, the last without MASK.

    After each step the places with the lowest scores, float32[B, h, w], are masked again: `schedule(r)` of those that
    were masked at first, counted for each picture, r = (i + 1) / T being the progress after step i of T. What is known
    at first is never one of them; what an earlier step has fixed is one only with `revise`.

    Nothing in the loop waits for the device: the counts of all steps are on it before the first.
    """
    counts = sampler.counts(schedule, tokens)
    kept = tokens != MASK
    for step in range(sampler.steps):
        progress = (step + 1) / sampler.steps
        logits = predict(tokens, progress).float()
        uniform = uniforms(2, tokens, generator)
        new = tokens == MASK
        codes = torch.where(new, sampler.draw(logits, uniform[0], progress), tokens)
        scores = score(Guess(logits, codes, new, uniform[1], progress))
        scores = scores.masked_fill(kept if revise else ~new, torch.inf)
        tokens = codes.masked_fill(least(scores, counts[step]), MASK)
        yield tokens


def uniforms(count: int, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """`count` uniform numbers a place of int64[B, h, w], drawn on the generator's device: float32[count, B, h, w]."""
    return torch.rand(count, *tokens.shape, generator=generator, device=generator.device).to(tokens.device)


def gumbel(uniform: Tensor) -> Tensor:
    """Uniform numbers float[...] in 0..1 to Gumbel noise, finite everywhere."""
    return -torch.log(-torch.log(uniform.clamp(min=1e-20)))


def log_likelihood(logits: Tensor, codes: Tensor) -> Tensor:
    """The log-probability of each place's code int64[B, h, w] under float32[B, h, w, K]: float32[B, h, w]."""
    return logits.log_softmax(-1).gather(-1, codes[..., None]).squeeze(-1)


def least(scores: Tensor, counts: Tensor) -> Tensor:
    """Where the `counts` (int64[B]) lowest of float[B, h, w] are: bool[B, h, w]; equals count as low from the end."""
    flat = scores.flatten(1)
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank >= flat.shape[1] - counts[:, None]).view_as(scores)
