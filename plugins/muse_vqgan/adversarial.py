"""The discriminator of VQGAN's adversarial loss, with LeCAM or R1 to hold it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Adversarial:
    """How the decoder learns to fool a discriminator.

    weight: of the generator's loss; Muse has 0.1 (table 5). start: the step from which both learn.
    channels, levels: of the discriminator, which halves the picture `levels` times.
    loss: hinge, or non-saturating as MaskGIT.
    regulariser: lecam (Tseng et al., 2021; weight 0.001 in MaskBit), r1 (Mescheder et al., 2018; 10 in MaskGIT), none.
    """

    weight: float = 0.1
    start: int = 20000
    channels: int = 64
    levels: int = 3
    loss: Literal["hinge", "non-saturating"] = "non-saturating"
    regulariser: Literal["lecam", "r1", "none"] = "lecam"
    strength: float = 0.001
    rate: float = 1e-4

    def __post_init__(self) -> None:
        if self.weight <= 0 or self.rate <= 0:
            raise ValueError("weight and rate must be above 0; leave adversarial out to train without")
        if min(self.start, self.strength) < 0 or min(self.channels, self.levels) < 1:
            raise ValueError("start and strength must be 0 or more, channels and levels 1 or more")

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The discriminator's logits of made pictures to what the decoder pays for them."""
        return -fake.mean() if self.loss == "hinge" else F.softplus(-fake).mean()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Logits of real and of made pictures to what the discriminator pays."""
        if self.loss == "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        return F.softplus(-real).mean() + F.softplus(fake).mean()


class Discriminator(nn.Module):
    """A patch discriminator (Isola et al., 2017) with group norm; it keeps LeCAM's two running means."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        now = channels
        for _ in range(levels - 1):
            wide = min(now * 2, channels * 8)
            layers += [nn.Conv2d(now, wide, 4, 2, 1), nn.GroupNorm(1, wide), nn.LeakyReLU(0.2)]
            now = wide
        self.layers = nn.Sequential(
            *layers, nn.Conv2d(now, now, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(now, 1, 3, 1, 1)
        )
        self.means: Tensor
        self.register_buffer("means", torch.zeros(2))

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] in 0..1 to logits float[B, 1, H', W'], high where it looks real."""
        return self.layers(images * 2 - 1).float()

    def lecam(self, real: Tensor, fake: Tensor, decay: float = 0.999) -> Tensor:
        """How far the logits stray from the other side's running mean (LeCAM, equation 4)."""
        now = torch.stack([real.detach().mean(), fake.detach().mean()])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(now.div_(torch.distributed.get_world_size()))
        self.means.lerp_(now, 1 - decay)
        return F.relu(real - self.means[1]).pow(2).mean() + F.relu(self.means[0] - fake).pow(2).mean()


def r1(logits: Tensor, images: Tensor) -> Tensor:
    """Half the squared gradient at real pictures, which must require gradients, of what is said of each: the mean of
    its patches' logits, which is of one size whatever the picture's is.
    """
    (gradient,) = torch.autograd.grad(logits.flatten(1).mean(1).sum(), images, create_graph=True)
    return gradient.pow(2).sum((1, 2, 3)).mean() / 2
