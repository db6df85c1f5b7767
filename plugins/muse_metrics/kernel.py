"""The kernel distance of two sets of pictures, which is KID where the features are Inception's."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from muse_metrics.features import Features
from muse_metrics.sample import SampledMetric
from muse_studio.errors import UserError


@dataclass
class Kernel(SampledMetric):
    """The squared maximum mean discrepancy of features under the kernel (x.y / D + 1)^3 (Bińkowski et al. 2018).

    Unlike the Fréchet distance it is unbiased: sets of any number of pictures can be compared, and two of the same
    distribution score 0 on average, so slightly below it as often as above.

    subsets, subset: the mean is over so many draws of so many pictures of each set, 100 of 1000 in the paper; one of
        all where there are no more. kept: pictures of each set that subsets are drawn from; all were too many to keep.
    """

    features: Features = field(default_factory=Features)
    subsets: int = 100
    subset: int = 1000
    kept: int = 10_000
    least: int = field(default=2, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.subsets < 1:
            raise ValueError(f"subsets is {self.subsets}; give at least 1")
        if self.subset < 2:
            raise ValueError(f"subset is {self.subset}; give at least 2 pictures")
        if self.kept < self.subset:
            raise ValueError(f"kept is {self.kept}, fewer than a subset's {self.subset}; give at least as many")
        self.reset()

    @property
    def meanings(self) -> dict[str, str]:
        """KID, or the distance by its network's name, and its spread over the subsets."""
        network = self.features.load()
        name = "KID" if network.official else f"kernel distance, {network.title}"
        return {
            name: f"squared maximum mean discrepancy of the features of {network.title} under (x.y / D + 1)^3, "
            f"unbiased: the mean over {self.subsets} subsets of {self.subset} of at most {self.kept} pictures, or of "
            "one of all where there are no more; 0 is best",
            f"{name}, deviation": "standard deviation over those subsets; 0 where there is one",
        }

    def compute(self) -> Tensor:
        """float64[2]: mean and deviation; UserError of fewer than two pictures."""
        from torchmetrics.image.kid import poly_mmd

        size = min(self.subset, len(self.real), len(self.generated))
        if size < 2:
            raise UserError(f"a kernel distance needs 2 pictures at least, and {size} came; measure more")
        generator = torch.Generator().manual_seed(0)
        count = 1 if size == len(self.real) == len(self.generated) else self.subsets
        found = []
        for _ in range(count):
            real, generated = (
                sample.rows[torch.randperm(len(sample), generator=generator)[:size]]
                for sample in (self.real, self.generated)
            )
            found.append(poly_mmd(real, generated))
        return torch.stack([torch.stack(found).mean(), torch.stack(found).std(correction=0)])
