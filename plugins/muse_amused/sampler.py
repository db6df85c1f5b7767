"""Parallel decoding as aMUSEd's scheduler does it: by confidence, with its own temperatures and counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import MASK, MaskSchedule, Predict
from muse_studio.sampling.filling import Guess, confidence, fill
from muse_studio.sampling.settings import Filling, Order, each_step_fixes


@dataclass
class Amused(Filling, Order):
    """The loop of aMUSEd (diffusers, `AmusedScheduler`), whose weights are known by pictures that it has drawn.

    It differs from `confidence` in two things, and with the same random numbers gives the scheduler's tokens:
    * The temperature of step i of T goes evenly from the first to the second number, t_0 (1 - i / (T - 1)) + t_1 i /
      (T - 1): the first step has the whole first one, where `confidence` at i / T is a step ahead.
    * How many places stay masked is counted in float32, floor(N (s m)) of N places, s the share of them masked at
      first: of 256 cos(pi / 3) it makes 127, not 128.

    Still each step draws two uniform numbers a place, from which codes are drawn by the cumulated probabilities; the
    scheduler's own seeds give other pictures.

    steps, temperature: aMUSEd's are 12 and [2, 0]; one number falls to 0.
    of: takes the last `steps` of so many, as its image to image does, for grids of which a share of cos(pi / 2 (1 -
        steps / of)) was masked by lot: temperatures and counts go on from there. Null is the same number as steps.
    sampling_temperature: of the codes; 0 takes the most likely one. Constant, or [from, to] as in `confidence`.
    top_k, top_p: draw among the k likeliest codes, or the fewest whose probabilities reach p.
    early: fixes the last place before the last step where it can; by default never, as the scheduler.
    """

    temperature: float | list[float] = 2.0
    of: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.of is not None and self.of < self.steps:
            raise ValueError(f"of is {self.of}; give as many as there are steps, {self.steps}, or more, or null")

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        return fill(self, predict, tokens, schedule, generator, self.score)

    def score(self, guess: Guess) -> Tensor:
        """How sure the model is of each code, with noise: float32[B, h, w]."""
        return confidence(guess, self.order_temperature(guess.progress))

    @property
    def all_steps(self) -> int:
        """T, the steps that are taken for done among them."""
        return self.of or self.steps

    def order_temperature(self, progress: float) -> float:
        """Progress (i + 1) / T to the temperature of step i."""
        step = progress * self.steps - 1 + self.all_steps - self.steps
        return super().order_temperature(step / (self.all_steps - 1) if self.all_steps > 1 else 0.0)

    def counts(self, schedule: MaskSchedule, tokens: Tensor) -> Tensor:
        """How many places of int64[B, h, w] are masked after each step: int64[T, B]."""
        places = tokens[0].numel()
        at_first = (tokens == MASK).flatten(1).sum(1)
        done = self.all_steps - self.steps
        shares = schedule(torch.arange(done + 1, self.all_steps + 1) / self.all_steps).to(tokens.device)
        share = at_first / places if done == 0 else torch.ones_like(at_first)
        wanted = (places * (share * shares[:, None])).floor().long()
        early = torch.full_like(at_first, bool(self.early), dtype=torch.bool)
        return each_step_fixes(wanted, at_first, early)
