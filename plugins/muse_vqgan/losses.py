"""What a reconstruction is measured by: pixels, edges, and a pretrained network's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from muse_studio.nn.vision import MEAN, STD, layers_of, load_vision


@dataclass
class Reconstruction:
    """Weights of the pixel losses: absolute error, squared error, and absolute error of neighbours' differences."""

    l1: float = 1.0
    l2: float = 0.0
    edges: float = 0.0

    def __post_init__(self) -> None:
        if min(self.l1, self.l2, self.edges) < 0 or self.l1 + self.l2 + self.edges == 0:
            raise ValueError("l1, l2 and edges are weights: 0 or more, and not all 0")

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        """float[B, 3, H, W] twice, in 0..1, to a scalar."""
        loss = self.l1 * F.l1_loss(made, real) + self.l2 * F.mse_loss(made, real)
        if self.edges > 0:
            error = made - real
            loss = loss + self.edges * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        return loss


@dataclass
class Perceptual:
    """Distance in the features of a pretrained vision network, layer by layer, each place normalised (LPIPS's form).

    network: any vision model that transformers' AutoModel loads, by hub name or local folder, such as
    microsoft/resnet-50 (of which MaskBit compares the logits) or a ConvNeXt.
    weight: the loss's weight; Muse has 0.05 (table 5), 0.005 in fine-tuning the decoder.
    mean, std: how the network takes its pixels; ImageNet's by default.
    The hub is asked only for what is neither a folder here nor in its cache.
    """

    network: str
    weight: float = 0.05
    mean: list[float] | None = None
    std: list[float] | None = None

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"weight is {self.weight}; give a number above 0, or leave perceptual out")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and len(numbers) != 3:
                raise ValueError(f"{name} is {numbers}; give three numbers, for red, green and blue")

    def load(self) -> PerceptualLoss:
        """The loss, with its network loaded; UserError where it can't be."""
        network = load_vision(self.network, "perceptual.network")
        mean = torch.tensor(self.mean or MEAN).view(3, 1, 1)
        std = torch.tensor(self.std or STD).view(3, 1, 1)
        return PerceptualLoss(network, mean, std)


class PerceptualLoss:
    """`Perceptual` with its network loaded."""

    def __init__(self, network: Any, mean: Tensor, std: Tensor) -> None:
        self.network, self.mean, self.std = network, mean, std

    def to(self, device: torch.device) -> PerceptualLoss:
        """Moves the network."""
        self.network.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def __call__(self, made: Tensor, real: Tensor) -> Tensor:
        """float[B, 3, H, W] twice, in 0..1, to a scalar."""
        layers = self._features(torch.cat([made, real]))
        return torch.stack([(a - b).pow(2).sum(1).mean() for a, b in (layer.chunk(2) for layer in layers)]).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        pixels, name = (images - self.mean) / self.std, type(self.network).__name__
        layers = layers_of(self.network, pixels, name, "perceptual needs a vision model that does")
        return [F.normalize(layer.float(), dim=1) for layer in layers]
