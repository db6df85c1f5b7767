"""Sampling with a critic: what looks sampled is masked again, even where it was kept before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import MaskSchedule, Predict, Transformer
from muse_studio.sampling.abilities import is_critic
from muse_studio.sampling.filling import Guess, fill, gumbel
from muse_studio.sampling.settings import Filling, Order


@dataclass
class TokenCritic(Filling, Order):
    """Token-Critic (Lezama et al., 2022, algorithm 2): a second network chooses what is masked again.

    Step i of T has the progress r = (i + 1) / T. Every masked place draws a code; the critic looks at the filled grid,
    at the text and at the low-resolution tokens, and scores every token that was not known at first by the
    log-probability that it is real, to which temperature * (1 - r) * Gumbel noise is added. The places with the lowest
    scores are masked again, `schedule(r)` of those that were masked at first, counted for each picture: a token that
    an earlier step kept may go, and be drawn anew, where `confidence` never goes back.

    What `confidence` says of equal scores, of counts and of random numbers holds here too. Known tokens are looked at,
    and never changed. The critic is asked once a step, without guidance; its conditioning is made once a picture.

    critic: a transformer that scores tokens, such as {use: critic, weights: ...}, trained on what this stage's
    transformer draws. One without weights scores at random: that is a random order.
    steps, sampling_temperature, top_k, top_p, early: as of `confidence`.
    temperature: of the noise on the scores, falling to 0. The paper has such noise, and not its shape.
    """

    critic: Transformer = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_critic(self.critic):
            raise ValueError(
                "critic is a transformer that predicts codes; give one that scores tokens, such as {use: critic}"
            )

    @torch.no_grad()
    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        conditioning = self.critic.condition(predict.text, predict.low)

        def score(guess: Guess) -> Tensor:
            real = F.logsigmoid(self.critic(guess.codes, conditioning).float().squeeze(-1))
            return real + self.order_temperature(guess.progress) * gumbel(guess.uniform)

        yield from fill(self, predict, tokens, schedule, generator, score, revise=True)
