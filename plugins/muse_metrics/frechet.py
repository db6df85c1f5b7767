"""The Fréchet distance of two sets of pictures, which is FID where the features are Inception's."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from muse_metrics.features import Features
from muse_metrics.sample import check_width
from muse_studio.errors import UserError


class Moments:
    """Sums of features and of their products, in float64: mean and covariance of any number of them."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = torch.zeros((), dtype=torch.float64)  # float64[D] from the first features on
        self.products = torch.zeros((), dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """float[B, D]; ValueError where D is not what it was."""
        check_width(self.sum if self.count else None, features)
        features = features.double()
        self.count += len(features)
        self.sum = self.sum + features.sum(0)
        self.products = self.products + features.T @ features

    @property
    def mean(self) -> Tensor:
        """float64[D]."""
        return self.sum / self.count

    @property
    def covariance(self) -> Tensor:
        """float64[D, D], unbiased; UserError of fewer than two."""
        if self.count < 2:
            raise UserError(f"a covariance needs 2 pictures at least, and {self.count} came; measure more")
        return (self.products - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(real: Moments, other: Moments) -> Tensor:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), a scalar (Heusel et al. 2017, equation 6).

    UserError of fewer than two pictures in either, ValueError where their features have other widths.
    """
    one, two = real.covariance, other.covariance
    check_width(one, two)
    # The root's trace is the sum of the singular values of S1^(1/2) S2^(1/2): exact where S1 S2 is singular, as it is
    # of fewer pictures than features, where the root of a product loses half of its digits.
    shared = torch.linalg.svdvals(_root(one) @ _root(two)).sum()
    return (real.mean - other.mean).square().sum() + one.trace() + two.trace() - 2 * shared


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


@dataclass
class Frechet:
    """The Fréchet distance between Gaussians fitted to the features of real and of drawn pictures; 0 is best.

    With Inception's features and FID's own weights it is FID, else it is named after the network. It falls with the
    number of pictures: compare it at the same number alone. Measured of a tokenizer's pictures it is the
    reconstruction distance.
    """

    features: Features = field(default_factory=Features)
    least: int = field(default=2, init=False, repr=False)

    def __post_init__(self) -> None:
        self.reset()

    @property
    def meanings(self) -> dict[str, str]:
        """FID, or the distance by its network's name."""
        network = self.features.load()
        name = "FID" if network.official else f"Fréchet distance, {network.title}"
        return {
            name: f"squared Fréchet distance between Gaussians fitted to the features of {network.title}, of real and "
            "of drawn pictures; 0 is best; biased upwards, the more so the fewer pictures: compare at equal n"
        }

    def reset(self) -> None:
        """Forget all pictures."""
        self.real, self.generated = Moments(), Moments()

    def update(self, real: Tensor, generated: Tensor, prompts: list[str]) -> None:
        """uint8[B, 3, H, W] twice, of any sizes."""
        self.real.add(self.features(real))
        self.generated.add(self.features(generated))

    def compute(self) -> Tensor:
        """float64[1]; UserError of fewer than two pictures."""
        return frechet_distance(self.real, self.generated)[None]
