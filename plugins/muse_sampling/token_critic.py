"""Sampling with a critic: what looks sampled is masked again, even where it was kept before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_sampling.confidence import Confidence, gumbel, least
from muse_sampling.draw import draw
from muse_sampling.schedules import masked_counts
from muse_studio.contracts import MASK, MaskSchedule, Predict, Transformer


@dataclass
class TokenCritic(Confidence):
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
    steps, sampling_temperature, top_k, top_p: as of `confidence`.
    temperature: of the noise on the scores, falling to 0. The paper has such noise, and not its shape.
    """

    critic: Transformer = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if getattr(self.critic, "outputs", None) != 1:
            raise ValueError(
                "critic is a transformer that predicts codes; give one that scores tokens, such as {use: critic}"
            )

    @torch.no_grad()
    def __call__(
        self, predict: Predict, tokens: Tensor, schedule: MaskSchedule, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] with MASK where a token is wanted; yields `steps` grids like it (see the class)."""
        wanted = tokens == MASK
        counts = masked_counts(schedule, self.steps, tokens[0].numel()).to(tokens.device)
        counts = counts[:, wanted.flatten(1).sum(1)]  # [T, B]
        conditioning = self.critic.condition(predict.text, predict.low)
        for step in range(self.steps):
            progress = (step + 1) / self.steps
            logits = predict(tokens, progress).float()
            uniform = torch.rand(2, *tokens.shape, generator=generator, device=generator.device).to(tokens.device)
            drawn = draw(logits, uniform[0], self.sampling_temperature, self.top_k, self.top_p)
            filled = torch.where(tokens == MASK, drawn, tokens)
            score = F.logsigmoid(self.critic(filled, conditioning).float().squeeze(-1))
            score = score + self.temperature * (1 - progress) * gumbel(uniform[1])
            score = score.masked_fill(~wanted, torch.inf)
            tokens = filled.masked_fill(least(score, counts[step]), MASK)
            yield tokens
