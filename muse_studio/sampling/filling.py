"""The loop that samplers share: guess every masked token, score the places, mask the lowest again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from muse_studio.contracts import MASK, MaskSchedule, Predict
from muse_studio.sampling.abilities import is_placewise
from muse_studio.sampling.noise import Rows, uniform
from muse_studio.sampling.settings import Filling, each_picture


class Guess(NamedTuple):
    """What one step makes of a grid, for its places to be scored by.

    logits: float32[B, n, K], of the grid as it was before the step, at n places of each picture.
    places: int64[B, n], which these are, in reading order; every MASK is among them.
    codes: int64[B, h, w], that grid with a code drawn for every MASK.
    new: bool[B, h, w], where that is.
    uniform: float32[B, h, w] in 0..1 (1 excluded), one random number a place, for noise.
    progress: (i + 1) / T at step i of T.
    """

    logits: Tensor
    places: Tensor
    codes: Tensor
    new: Tensor
    uniform: Tensor
    progress: float

    def logit(self) -> Tensor:
        """Each code's logit: float32[B, h, w], 0 where there are no logits."""
        return spread(of_codes(self.logits, at(self.codes, self.places)), self.places, self.uniform)

    def log_likelihood(self) -> Tensor:
        """Each code's log-probability: float32[B, h, w], 0 where there are no logits."""
        return spread(log_likelihood(self.logits, at(self.codes, self.places)), self.places, self.uniform)


@torch.no_grad()
def fill(
    sampler: Filling,
    predict: Predict,
    tokens: Tensor,
    schedule: MaskSchedule,
    generator: torch.Generator | Rows,
    score: Callable[[Guess], Tensor],
    revise: bool = False,
    everywhere: bool = False,
) -> Iterator[Tensor]:
    """int64[B, h, w] with MASK where a token is wanted; yields `sampler.steps` grids like it, the last without MASK.

    After each step the places with the lowest scores, float32[B, h, w], are masked again: `schedule(r)` of those that
    were masked at first, counted for each picture, r = (i + 1) / T being the progress after step i of T. What is known
    at first is never one of them; what an earlier step has fixed is one only with `revise`.

    everywhere: `score` reads the logits of known places too, which else are not computed where that can be saved.

    Nothing in the loop waits for the device: the counts of all steps are on it, and known here, before the first. A
    step before which nothing is masked any more asks a `placewise` `predict` nothing, and yields what there is.
    """
    counts = sampler.counts(schedule, tokens)
    asked = widths(predict, tokens, counts, everywhere)
    kept = tokens != MASK
    for step in range(sampler.steps):
        progress = (step + 1) / sampler.steps
        uniform = uniforms(2, tokens, generator)  # whether they are used or not, as others of the run come after them
        if not asked[step]:
            yield tokens
            continue
        logits, places = ask(predict, tokens, progress, asked[step])
        new = tokens == MASK
        drawn = sampler.draw(logits, at(uniform[0], places), progress)
        codes = torch.where(new, spread(drawn, places, tokens), tokens)
        scores = score(Guess(logits, places, codes, new, uniform[1], progress))
        scores = scores.masked_fill(kept if revise else ~new, torch.inf)
        tokens = codes.masked_fill(least(scores, counts[step]), MASK)
        yield tokens


def widths(predict: Predict, tokens: Tensor, counts: Tensor, everywhere: bool = False) -> list[int]:
    """At how many places of int64[B, h, w] each step needs logits, if `counts` (int64[T, B]) are masked after each.

    The most that a picture of the batch has masked before the step, or all where they are wanted `everywhere`; 0 where
    nothing is masked any more. Always all where `predict` gives all at once: its device may be one not to be waited
    for, and only there are the counts known.
    """
    size = tokens[0].numel()
    if not is_placewise(predict):
        return [size] * len(counts)
    before = (tokens == MASK).flatten(1).sum(1)
    masked: list[int] = torch.cat([before[None], counts[:-1]]).amax(1).tolist()
    return [size if everywhere and count else count for count in masked]


def ask(predict: Predict, tokens: Tensor, progress: float, count: int) -> tuple[Tensor, Tensor]:
    """The logits float32[B, n, K] of `count` places a picture, and which, int64[B, n]: every MASK, then others."""
    if count == tokens[0].numel():
        places = torch.arange(count, device=tokens.device).expand(len(tokens), -1)
        return predict(tokens, progress).flatten(1, 2).float(), places
    masked = (tokens == MASK).flatten(1)
    places = masked.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
    some: Callable[..., Tensor] = predict  # it is `placewise`, or all places had been asked for
    return some(tokens, progress, places).float(), places


def at(grid: Tensor, places: Tensor) -> Tensor:
    """[B, h, w] to [B, n], its values at int64[B, n]."""
    return grid.flatten(1).gather(1, places)


def spread(values: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """[B, n] to [B, h, w] as large as `like`: the values at int64[B, n], 0 elsewhere."""
    return values.new_zeros(like.shape).flatten(1).scatter(1, places, values).view_as(like)


def uniforms(count: int, tokens: Tensor, generator: torch.Generator | Rows) -> Tensor:
    """`count` uniform numbers a place of int64[B, h, w], drawn on the generator's device: float32[count, B, h, w]."""
    return uniform(generator, count, *tokens.shape, rows=1, to=tokens.device)


def gumbel(uniform: Tensor) -> Tensor:
    """Uniform numbers float[...] in 0..1 to Gumbel noise, finite everywhere."""
    return -torch.log(-torch.log(uniform.clamp(min=1e-20)))


def confidence(guess: Guess, temperature: float) -> Tensor:
    """How sure the model is of each code, with Gumbel noise (MaskGIT, section 3.2 and its code): float32[B, h, w]."""
    return guess.log_likelihood() + temperature * gumbel(guess.uniform)


def of_codes(values: Tensor, codes: Tensor) -> Tensor:
    """float32[..., K] and int64[...] to each place's value of its code: float32[...]."""
    return values.gather(-1, codes[..., None]).squeeze(-1)


def log_likelihood(logits: Tensor, codes: Tensor) -> Tensor:
    """The log-probability of each place's code int64[B, n] under float32[B, n, K]: float32[B, n]."""
    return each_picture(lambda logits, codes: of_codes(logits.log_softmax(-1), codes), logits, codes)


def least(scores: Tensor, counts: Tensor) -> Tensor:
    """Where the `counts` (int64[B]) lowest of float[B, h, w] are: bool[B, h, w]; equals count as low from the end."""
    flat = scores.flatten(1)
    order = flat.argsort(dim=1, descending=True, stable=True)
    low = torch.arange(flat.shape[1], device=flat.device) >= flat.shape[1] - counts[:, None]
    return torch.empty_like(low).scatter(1, order, low).view_as(scores)
