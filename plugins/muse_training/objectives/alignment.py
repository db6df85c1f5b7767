"""Representation alignment: a layer of the transformer learns to say what a frozen vision network sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Batch, Chance, Learning, Lots, MaskSchedule
from muse_studio.errors import UserError
from muse_studio.nn.vision import MEAN, STD, layers_of, load_vision
from muse_training.objectives.masked import Masked


class Repa(nn.Module):
    """`masked`, and beside it REPA's term (Yu et al., 2025, 2410.06940, equation 8), whose projection learns too.

    At each place of the grid a layer's states, through three linear layers, are to point where the features of the
    whole picture point there: the loss is minus the mean cosine, times `weight`.

    network: a vision model that transformers' AutoModel loads, by hub name or local folder. channels: the width of its
        last layer, which is told so that a check loads nothing. The paper's best is DINOv2.
    width: of the transformer. layer: whose states, counted from 0, or from the end below 0; the paper's is 8 of 28.
    weight: of the term; 0.5 in the paper. hidden: width of the projection's inner layers.
    smoothing: of labels, as of `masked`.
    """

    pixels = True

    def __init__(
        self,
        network: str,
        channels: int,
        width: int,
        layer: int = 2,
        weight: float = 0.5,
        hidden: int = 2048,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if min(channels, width, hidden) < 1 or weight <= 0:
            raise ValueError("channels, width and hidden are 1 or more, weight is more than 0")
        self.network, self.channels, self.layer, self.weight = network, channels, layer, weight
        self.masked = Masked(smoothing)
        self.project = nn.Sequential(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, channels)
        )
        self._seeing: list[Any] = []  # in a list, as no checkpoint is to hold it, and no optimizer

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """As of `masked`."""
        return self.masked.draw(count, grid, schedule, chance)

    def forward(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and of its parts the mean cosine."""
        loss, figures = self.masked(batch, model)
        said = self.project(model.states)
        seen = self._seen(batch, (said.shape[1], said.shape[2]))
        alike = F.cosine_similarity(said.float(), seen, dim=-1).mean()
        return loss - self.weight * alike, {**figures, "alignment": alike.detach()}

    @torch.no_grad()
    def _seen(self, batch: Batch, grid: tuple[int, int]) -> Tensor:
        """The network's last layer of the pictures, scaled to a grid: float32[B, h, w, channels]."""
        assert batch.pixels is not None  # as it is needed
        on = batch.pixels.device
        if not self._seeing:
            self._seeing.append(load_vision(self.network, "objective.network").to(on))
        mean, std = (torch.tensor(each, device=on).view(3, 1, 1) for each in (MEAN, STD))
        cure = "repa needs a vision model that does"
        *_, last = layers_of(self._seeing[0], (batch.pixels - mean) / std, "objective.network", cure)
        if last.shape[1] != self.channels:
            raise UserError(f"objective.channels is {self.channels}, and {self.network} has {last.shape[1]}")
        plane = plane_of(last).float()
        return F.interpolate(plane, grid, mode="bilinear", antialias=True).movedim(1, -1)


def plane_of(features: Tensor) -> Tensor:
    """Features float[B, C, h, w]; of [B, C, T, 1] the last square number of them, which come after class tokens."""
    if features.shape[-1] != 1 or features.shape[-2] == 1:
        return features
    side = int(features.shape[2] ** 0.5)
    return features[:, :, -side * side :, 0].unflatten(2, (side, side))
