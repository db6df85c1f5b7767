"""Path planning with the model as its own planner: a token that it has come to doubt is masked and drawn again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import MaskSchedule, Predict
from muse_studio.sampling.filling import Guess, fill, gumbel
from muse_studio.sampling.settings import Filling, Order


@dataclass
class PredictorCorrector(Filling, Order):
    """P2 with self-planning (Peng et al., 2025, 2502.03540, and its code, `p2_sampling`).

    Each step predicts a code for every masked place and scores all places but those known at first: a code just drawn
    by its log-probability, a token that an earlier step fixed by eta times the log-probability that the model gives it
    now, in the light of what has come since. The lowest are masked, as many as the mask schedule says. So a token
    whose neighbours have turned against it goes, and one more place is filled in its stead.

    eta: how readily tokens are taken back. 1 judges old and new alike (P2's own default), more doubts the old more, 0
        never takes one back: that is `confidence`, token for token.
    temperature: of Gumbel noise on all scores, falling to 0, or [from, to]. P2 has none.
    steps, sampling_temperature, top_k, top_p, early: as in `confidence`, and so are ties, the last step and the count
        of random numbers.

    The model must be able to judge a token that it sees. One trained on masked places alone has never been asked to;
    whether its logits there mean anything is worth a look before they are trusted.
    """

    temperature: float | list[float] = 0.0
    eta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"eta is {self.eta}; give 0 (no token is taken back) or more")

    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        return fill(
            self, predict, tokens, schedule, generator, self.score, revise=self.eta > 0, everywhere=self.eta > 0
        )

    def score(self, guess: Guess) -> Tensor:
        """How sure the model is of each code, an old one's by eta, with noise: float32[B, h, w]."""
        sure = guess.log_likelihood()
        sure = torch.where(guess.new, sure, self.eta * sure)
        return sure + self.order_temperature(guess.progress) * gumbel(guess.uniform)
