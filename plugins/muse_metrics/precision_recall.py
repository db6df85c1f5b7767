"""Precision and recall of drawn pictures: how many look real, and how much of the real ones is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from muse_metrics.features import Features
from muse_metrics.sample import SampledMetric, check_width
from muse_studio.errors import UserError

ROWS = 1024
"""Distances are computed so many rows at a time, to keep memory small."""


@dataclass
class PrecisionRecall(SampledMetric):
    """Precision and recall by nearest neighbours in feature space (Kynkäänniemi et al. 2019).

    A set's manifold is the union of balls around its features, each reaching its k-th nearest other. Precision is the
    share of drawn pictures on the real ones' manifold, recall that of real pictures on the drawn ones'.

    neighbours: k, 3 in the paper. kept: pictures of each set that are held against each other, a draw of all where
        there are more; both numbers depend on how many, so compare them at the same number.
    """

    features: Features = field(default_factory=Features)
    neighbours: int = 3
    kept: int = 10_000
    least: int = field(default=2, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"neighbours is {self.neighbours}; give at least 1")
        if self.kept <= self.neighbours:
            raise ValueError(f"kept is {self.kept}; give more pictures than the {self.neighbours} neighbours")
        self.least = self.neighbours + 1
        self.reset()

    @property
    def meanings(self) -> dict[str, str]:
        """Precision and recall, by the network's name."""
        title = self.features.load().title
        ball = f"ball that reaches its {self.neighbours}. nearest neighbour, of at most {self.kept} pictures"
        return {
            f"precision, {title}": f"share of drawn pictures whose features lie in a real one's {ball}; 1 is best",
            f"recall, {title}": f"share of real pictures whose features lie in a drawn one's {ball}; 1 is best",
        }

    def compute(self) -> Tensor:
        """float64[2]; UserError of no more pictures than neighbours."""
        fewest = min(len(self.real), len(self.generated))
        if fewest < self.least:
            raise UserError(f"precision and recall need {self.least} pictures at least, and {fewest} came")
        real, generated = self.real.rows, self.generated.rows
        return torch.stack([_within(generated, real, self.neighbours), _within(real, generated, self.neighbours)])


def _within(points: Tensor, manifold: Tensor, neighbours: int) -> Tensor:
    """The share of points float[P, D] that lie in the ball of any row of float[M, D]."""
    check_width(manifold, points)
    # The nearest one is the row itself, at distance 0.
    radii = torch.cat([torch.cdist(rows, manifold).kthvalue(neighbours + 1).values for rows in manifold.split(ROWS)])
    inside = [(torch.cdist(rows, manifold) <= radii).any(1) for rows in points.split(ROWS)]
    return torch.cat(inside).double().mean()
