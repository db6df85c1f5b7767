"""Parallel decoding by confidence: guess every masked token, keep the surest, mask the rest again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_sampling.draw import draw
from muse_sampling.schedules import masked_counts
from muse_studio.contracts import MASK, MaskSchedule, Predict


@dataclass
class Confidence:
    """MaskGIT's loop (section 3.2 and its code, `parallel_decode`), which Muse samples with (section 2.8).

    Step i of T has the progress r = (i + 1) / T, given to guidance too. Every masked place draws a code; its
    confidence is the log-probability of that code plus temperature * (1 - r) * Gumbel noise; the places with the
    least confidence are masked again, `schedule(r)` of those that were masked at first, counted for each picture.

    Where the code leaves room, or stumbles, this holds:
    * Confidence is read from the guided logits as they are: sampling_temperature, top_k and top_p choose codes only.
    * Exactly the scheduled number is masked: of equal confidences, those first in reading order are kept. (The
      original's `<` keeps all of them.)
    * Each step fixes at least one token but leaves at least one; the last step fixes all. (So a single one waits for
      the last step. The original's own grid keeps it masked even then, while its result has it.)
    * Known tokens are never changed, however many a picture has; with all known, it stays as it is.
    * Each yield is the grid with MASK where it is still open; the last one has none.
    * Each step draws two uniform numbers a place on the generator's device: no setting shifts later random numbers.

    steps: T. Muse: 24 for 16x16 tokens, 8 for 64x64.
    temperature: of the noise on the confidence, falling to 0; 0 is the greedy order, MaskGIT's code has 4.5.
    sampling_temperature: of the codes; 0 takes the most likely one.
    top_k, top_p: draw among the k likeliest codes, or the fewest whose probabilities reach p.
    """

    steps: int = 12
    temperature: float = 4.5
    sampling_temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give 1 or more")
        for name in ("temperature", "sampling_temperature"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; give 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give 1 or more, or null for every code")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; give a share above 0, at most 1, or null for every code")

    @torch.no_grad()
    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class).

        Nothing in the loop waits for the device: the counts of all steps are on it before the first.
        """
        counts = masked_counts(schedule, self.steps, tokens[0].numel()).to(tokens.device)
        counts = counts[:, (tokens == MASK).flatten(1).sum(1)]  # [T, B]
        for step in range(self.steps):
            progress = (step + 1) / self.steps
            logits = predict(tokens, progress).float()
            uniform = torch.rand(2, *tokens.shape, generator=generator, device=generator.device).to(tokens.device)
            drawn = draw(logits, uniform[0], self.sampling_temperature, self.top_k, self.top_p)
            confidence = logits.log_softmax(-1).gather(-1, drawn[..., None]).squeeze(-1)
            confidence = confidence + self.temperature * (1 - progress) * gumbel(uniform[1])
            unknown = tokens == MASK
            confidence = confidence.masked_fill(~unknown, torch.inf)
            tokens = torch.where(unknown, drawn, tokens).masked_fill(least(confidence, counts[step]), MASK)
            yield tokens


def gumbel(uniform: Tensor) -> Tensor:
    """Uniform numbers float[...] in 0..1 to Gumbel noise, finite everywhere."""
    return -torch.log(-torch.log(uniform.clamp(min=1e-20)))


def least(confidence: Tensor, counts: Tensor) -> Tensor:
    """Where the `counts` (int64[B]) lowest of float[B, h, w] are: bool[B, h, w]; equals count as low from the end."""
    flat = confidence.flatten(1)
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank >= flat.shape[1] - counts[:, None]).view_as(confidence)
