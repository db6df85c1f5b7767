"""Masked-token training: hide tokens by the mask schedule, predict them (Muse, section 2.6; MaskGIT, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from muse_studio.contracts import Batch, Chance, Learning, Lots, MaskSchedule
from muse_studio.sampling.masking import hidden_loss, hide, mask_tokens, masked_loss
from muse_training.objectives.figures import SHARE, accuracy, by_share


def check_smoothing(smoothing: float) -> None:
    """ValueError where it is no share of a code's probability."""
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing is {smoothing}; it lies in 0..1 without 1")


@dataclass(frozen=True)
class Masked:
    """Muse's loss: the mean cross-entropy of all hidden tokens of a step, each of which counts alike.

    Of a picture ceil(r h w) tokens are hidden, at least one, r by the stage's schedule.

    smoothing: of labels: the share of the probability that is spread over all codes.
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """Masks; a picture counts by its hidden tokens."""
        hidden = mask_tokens(count, grid, schedule, chance("mask"))
        return Lots(hidden, hidden.flatten(1).sum(1), {SHARE: by_share(hidden, hidden)})

    def __call__(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and the accuracy over hidden tokens."""
        logits = model(hide(batch.tokens, batch.hidden))
        summed, right = masked_loss(logits, batch.tokens, batch.hidden, self.smoothing)
        return summed * batch.scale, {"accuracy": right.sum() * batch.scale} | accuracy(right, batch)


@dataclass(frozen=True)
class MaskGIT:
    """MaskGIT's loss: each picture's mean cross-entropy over its hidden tokens, then the mean of the pictures.

    So a picture of which few tokens are hidden counts as much as one of which all are; in `masked` it counts less.

    smoothing: of labels; 0.1 in MaskGIT.
    """

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """Masks as of `masked`; pictures count alike."""
        hidden = mask_tokens(count, grid, schedule, chance("mask"))
        return Lots(hidden, noise={SHARE: by_share(hidden, hidden)})

    def __call__(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and the accuracy, likewise a mean of the pictures' own."""
        logits, counts = model(hide(batch.tokens, batch.hidden)), batch.hidden.flatten(1).sum(1)
        each, right = hidden_loss(logits, batch.tokens, batch.hidden, self.smoothing)
        figures = {"accuracy": (right / counts).sum() * batch.scale}
        return (each / counts).sum() * batch.scale, figures | accuracy(right, batch)
