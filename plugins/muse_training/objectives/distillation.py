"""Learning from what a teacher says of the hidden tokens, in place of what they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Batch, Chance, Learning, Lots, MaskSchedule, Transformer
from muse_studio.sampling.masking import hide, mask_tokens
from muse_training.objectives.figures import SHARE, accuracy, by_share


@dataclass
class Distillation:
    """The Kullback-Leibler divergence from a frozen teacher's codes to the model's, at hidden tokens (Hinton, 2015).

    teacher: a transformer of the same codes, such as {use: muse, weights: ...}. It is asked for the same text.
    guidance: t of the teacher's classifier-free guidance: (1 + t) l_c - t l_0. The student then draws so with one
        forward a step, and without guidance (Meng et al., 2023).
    temperature: what both sides' logits are divided by; the loss is multiplied by its square, as the paper does.
    """

    teacher: Transformer
    guidance: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.guidance < 0 or self.temperature <= 0:
            raise ValueError(
                f"guidance is {self.guidance}, temperature {self.temperature}; give 0 or more, and more than 0"
            )
        if isinstance(self.teacher, nn.Module):
            self.teacher.eval().requires_grad_(False)

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """Masks as of `masked`."""
        hidden = mask_tokens(count, grid, schedule, chance("mask"))
        return Lots(hidden, hidden.flatten(1).sum(1), {SHARE: by_share(hidden, hidden)})

    def __call__(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and how often the student's likeliest code is the teacher's."""
        tokens = hide(batch.tokens, batch.hidden)
        logits, wanted = model(tokens).float(), self._asked(tokens, batch)
        if logits.shape != wanted.shape:
            raise ValueError(
                f"the teacher gives {wanted.shape[-1]} codes, the transformer {logits.shape[-1]}; give the teacher's "
                "codebook_size to the transformer, or another teacher"
            )
        ours, theirs = ((each / self.temperature).log_softmax(-1) for each in (logits, wanted))
        each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1) * self.temperature**2
        right = ((logits.detach().argmax(-1) == wanted.argmax(-1)) & batch.hidden).flatten(1).sum(1).float()
        loss = (each * batch.hidden).sum() * batch.scale
        return loss, {"accuracy": right.sum() * batch.scale} | accuracy(right, batch)

    @torch.no_grad()
    def _asked(self, tokens: Tensor, batch: Batch) -> Tensor:
        """The teacher's logits, guided where that is wanted: float32[B, h, w, K]."""
        prompted = self.teacher(tokens, self.teacher.condition(batch.text, batch.low)).float()
        if self.guidance == 0:
            return prompted
        nothing = self.teacher(tokens, self.teacher.condition(batch.text.null(), batch.low)).float()
        return prompted + self.guidance * (prompted - nothing)
