"""What a critic learns from: a frozen generator draws the hidden tokens, the critic tells which they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from muse_studio.contracts import Batch, Chance, Learning, Lots, MaskSchedule
from muse_studio.sampling.masking import hide, mask_tokens
from muse_studio.sampling.noise import choose
from muse_training.objectives.figures import SHARE, accuracy, by_share


@dataclass(frozen=True)
class TokenCritic:
    """Token-Critic's loss (Lezama et al., 2022, algorithm 1), for the critic that the stage's sampler asks.

    The stage's transformer, which stays as it is, draws the hidden tokens by its own chances, without guidance or
    temperature; the critic pays the binary cross-entropy of every token. `accuracy` is the share of tokens judged
    rightly, which says much only beside the share that was sampled.
    """

    learns: ClassVar[str] = "critic"

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """Masks, and a uniform number for each code that is drawn; every token counts."""
        hidden = mask_tokens(count, grid, schedule, chance("mask"))
        counted = torch.ones_like(hidden)
        noise = {SHARE: by_share(hidden, counted), "uniform": torch.rand(count, *grid, generator=chance("draw"))}
        return Lots(hidden, counted.flatten(1).sum(1), noise)

    def __call__(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and the accuracy over all tokens."""
        assert model.other is not None  # the task gives it to who trains a critic
        with torch.no_grad():
            logits = model.other(hide(batch.tokens, batch.hidden)).float()
            filled = torch.where(batch.hidden, choose(logits, batch.noise["uniform"]), batch.tokens)
        summed, right = telling_loss(model(filled), batch.hidden)
        return summed * batch.scale, {"accuracy": right.sum() * batch.scale} | accuracy(right, batch)


def telling_loss(scores: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over all tokens; float[B, h, w, 1], bool[B, h, w].

    The first is the binary cross-entropy of the scores, the log-odds that a token is real; the second, float[B], how
    many of each row were judged rightly. What was sampled is the mask itself, as in the paper: a code that was drawn
    counts as sampled even where it is the one that was hidden.
    """
    scores = scores.squeeze(-1).float()
    loss = F.binary_cross_entropy_with_logits(scores, (~sampled).float(), reduction="sum")
    right = ((scores.detach() > 0) == ~sampled).flatten(1).sum(-1)
    return loss, right.float()
