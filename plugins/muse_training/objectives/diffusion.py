"""Masked training as discrete diffusion: each token is hidden for itself, and weights make the loss a bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import Batch, Chance, Learning, Lots, MaskSchedule
from muse_studio.sampling.masking import hidden_loss, hide
from muse_training.objectives.figures import SHARE, accuracy, by_share

LAST = 1 - 1e-3
"""The last progress that is drawn, where all but nothing is hidden and weights grow without end (MDLM's code)."""


def even_times(count: int, generator: torch.Generator) -> Tensor:
    """Times in 0..LAST, float64[count], one in each of `count` equal pieces: their losses vary less (MDLM, app. C)."""
    first = torch.rand(1, generator=generator, device=generator.device, dtype=torch.float64)
    places = torch.arange(count, dtype=torch.float64, device=generator.device) / count
    return (first + places) % 1 * LAST


def share_and_fall(schedule: MaskSchedule, progress: Tensor) -> tuple[Tensor, Tensor]:
    """The share that is hidden at float64[N], and how fast it falls there, by differences: float64[N] each."""
    step = 1e-6
    before, after = (progress - step).clamp(min=0), (progress + step).clamp(max=1)
    fall = (schedule(before) - schedule(after)) / (after - before)
    return schedule(progress), fall


def hide_each(share: Tensor, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Each token of N pictures hidden with its picture's chance float[N]: bool[N, h, w]."""
    return torch.rand(len(share), *grid, generator=generator, device=generator.device) < share[:, None, None]


@dataclass(frozen=True)
class MDLM:
    """MDLM's bound (Sahoo et al., 2024, 2406.07524, equation 10): nats a token, never below those of the data.

    Each token is hidden with the chance m = schedule(u), u even in 0..1, and a picture pays -m'(u) / m times the
    cross-entropy of its hidden tokens, over all its tokens. The bound is the same for every schedule; what differs is
    how much the estimate of it varies.
    """

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """Masks, and each picture's weight."""
        share, fall = share_and_fall(schedule, even_times(count, chance("time")))
        hidden = hide_each(share.float(), grid, chance("mask"))
        return Lots(hidden, noise={SHARE: by_share(hidden, hidden), "weight": (fall / share).float()})

    def __call__(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The bound, and the accuracy by how much was hidden."""
        logits = model(hide(batch.tokens, batch.hidden))
        each, right = hidden_loss(logits, batch.tokens, batch.hidden)
        loss = (each * batch.noise["weight"]).sum() * batch.scale / batch.tokens[0].numel()
        return loss, accuracy(right, batch)


@dataclass(frozen=True)
class DiscreteFlow:
    """Discrete flow matching on the path that masks (Gat et al., 2024, 2407.15595, equation 27).

    Each token is hidden with the chance m = schedule(u), and a picture pays the cross-entropy of its hidden tokens over
    all its tokens, without further weights: the loss of the probability denoiser.
    """

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """Masks."""
        share = schedule(even_times(count, chance("time")))
        hidden = hide_each(share.float(), grid, chance("mask"))
        return Lots(hidden, noise={SHARE: by_share(hidden, hidden)})

    def __call__(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and the accuracy by how much was hidden."""
        logits = model(hide(batch.tokens, batch.hidden))
        each, right = hidden_loss(logits, batch.tokens, batch.hidden)
        return each.sum() * batch.scale / batch.tokens[0].numel(), accuracy(right, batch)
