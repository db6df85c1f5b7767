"""The perceptual distance of two pictures in the layers of a network, place by place: LPIPS's form, any network."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from muse_metrics.features import Features
from muse_metrics.pairs import PairMetric
from muse_studio.errors import UserError
from muse_studio.runtime import weights

EPS = 1e-10
"""Added to a norm, so that a place where all channels are 0 stays 0."""


@dataclass
class FeatureDistance(PairMetric):
    """Perceptual distance of each picture and its original (LPIPS, Zhang et al. 2018, section 3); 0 is best.

    At every place of every layer the channels are scaled to length 1. The squared differences are summed over channels,
    averaged over a layer's places, then over layers. That is LPIPS's baseline, with all channels alike; LPIPS itself
    sums over layers, and weighs channels by what it learned from people's judgements.

    features: the network, whose layers are compared (see `Features.layers`); pictures are scaled to its side.
    linear: the address of LPIPS's weights for just this network, as safetensors: lin0.model.1.weight, lin1..., each
        [1, C, 1, 1] and none negative, one a layer in their order. With them the distance is LPIPS's own, a sum over
        layers.
    """

    features: Features = field(default_factory=Features)
    linear: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def to(self, device: torch.device) -> FeatureDistance:
        """Compute on that device from now on."""
        self.features.to(device)
        return self

    @property
    def meanings(self) -> dict[str, str]:
        """The distance, named after its network; UserError where that or its weights can't be had."""
        title = self.features.load().title
        if self.linear is None:
            return {
                f"feature distance, {title}": "squared distance of unit-length features of each picture and its "
                f"original, averaged over the places and layers of {title}, then the mean; 0 is best"
            }
        self._weights  # noqa: B018  a missing file is reported before anything is drawn
        return {
            f"LPIPS, {title}": f"perceptual distance of each picture and its original by LPIPS's weights for {title}, "
            "then the mean; 0 is best"
        }

    def measure(self, real: Tensor, generated: Tensor) -> Tensor:
        """float64[B, 3, H, W] in 0..255 twice to float64[B]; UserError where the weights are another network's."""
        pairs = zip(self.features.layers(real.byte()), self.features.layers(generated.byte()), strict=True)
        parts = [(unit_length(one) - unit_length(other)).square() for one, other in pairs]
        if self.linear is None:
            return torch.stack([part.sum(1).mean((1, 2)).cpu().double() for part in parts]).mean(0)
        found, wanted = [len(weight) for weight in self._weights], [part.shape[1] for part in parts]
        if found != wanted:
            raise UserError(
                f"linear: {self.linear} weighs layers of {found} channels, and the network has {wanted}; give the "
                "weights that were learned for this network"
            )
        weighed = [
            torch.einsum("bchw,c->bhw", part, weight.to(part))
            for part, weight in zip(parts, self._weights, strict=True)
        ]
        return torch.stack([part.mean((1, 2)).cpu().double() for part in weighed]).sum(0)

    @cached_property
    def _weights(self) -> list[Tensor]:
        """What each layer's channels count: float32[C] each."""
        assert self.linear is not None
        found = weights.read(self.linear)
        names = [f"lin{index}.model.1.weight" for index in range(len(found))]
        if not found or sorted(found) != sorted(names) or any(each.dim() != 4 for each in found.values()):
            raise UserError(
                f"linear: {self.linear} does not hold LPIPS's weights, lin0.model.1.weight and so on, each "
                f"[1, C, 1, 1], but {', '.join(sorted(found)[:3]) or 'nothing'}"
            )
        rows = [found[name].float().flatten() for name in names]
        if any(bool((row < 0).any()) for row in rows):
            raise UserError(f"linear: {self.linear} has weights below 0, which LPIPS's never are")
        return rows


def unit_length(layer: Tensor) -> Tensor:
    """float[B, C, h, w], each place's channels scaled to length 1; zeros stay zeros."""
    return layer / (torch.linalg.vector_norm(layer, dim=1, keepdim=True) + EPS)
