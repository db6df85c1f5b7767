"""The objective aligned: masked tokens, and a layer that learns what a frozen network sees (REPA, Yu et al., 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from muse_studio.contracts import Batch, Chance, Learning, Lots, MaskSchedule
from muse_studio.sampling.masking import hidden_loss, hide, mask_tokens
from torch import Tensor, nn


class Aligned(nn.Module):
    """The mean cross-entropy of hidden tokens, less `weight` times the mean cosine to the network's features.

    width: of the transformer. network: a folder of a vision model for transformers' AutoModel, null for random
    convolutions, which are features too. channels: how many it gives a place. layer: whose states are aligned.
    """

    pixels = True

    def __init__(
        self, width: int, network: str | None = None, channels: int = 32, layer: int = 1, weight: float = 0.5
    ) -> None:
        super().__init__()
        self.network, self.channels, self.layer, self.weight = network, channels, layer, weight
        self.project = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, channels))
        self._frozen: list[Any] = []  # in a list, so that no optimizer and no checkpoint sees it

    def draw(self, count: int, grid: tuple[int, int], schedule: MaskSchedule, chance: Chance) -> Lots:
        """Which tokens are hidden, by the stage's schedule."""
        hidden = mask_tokens(count, grid, schedule, chance("mask"))
        return Lots(hidden, hidden.flatten(1).sum(1).float())

    def forward(self, batch: Batch, model: Learning) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss, and how far the layer is aligned."""
        logits = model(hide(batch.tokens, batch.hidden))
        summed, _ = hidden_loss(logits, batch.tokens, batch.hidden)
        alignment = F.cosine_similarity(self.project(model.states).float(), self._seen(batch), dim=-1).mean()
        return summed.sum() * batch.scale - self.weight * alignment, {"alignment": alignment.detach()}

    @torch.no_grad()
    def _seen(self, batch: Batch) -> Tensor:
        assert batch.pixels is not None  # as it is needed
        if not self._frozen:
            from transformers import AutoModel

            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                random = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.SiLU(), nn.Conv2d(16, self.channels, 3, padding=1))
            made = random if self.network is None else AutoModel.from_pretrained(self.network, local_files_only=True)
            self._frozen.append(made.to(batch.pixels.device).eval().requires_grad_(False))
        features = self._frozen[0](batch.pixels)
        plane: Tensor = features if self.network is None else features.last_hidden_state
        height, width = batch.tokens.shape[1:]
        return F.adaptive_avg_pool2d(plane.float(), (height, width)).movedim(1, -1)
