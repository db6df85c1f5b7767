"""The Inception score: are drawn pictures each of one class, and all together of many?"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from muse_metrics.features import Features
from muse_metrics.sample import picture_keys
from muse_studio.errors import UserError


@dataclass
class InceptionScore:
    """exp of the mean divergence of a picture's classes from those of all (Salimans et al. 2016); higher is better.

    It measures the drawn pictures alone. With another classifier than Inception it is named after that.

    splits: the pictures are dealt into so many parts, and mean and deviation are over these; 10 in the paper. A
        picture's own pixels say into which, so that no order changes the score.
    """

    features: Features = field(default_factory=Features)
    splits: int = 10
    least: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.splits < 1:
            raise ValueError(f"splits is {self.splits}; give at least 1")
        self.reset()

    @property
    def meanings(self) -> dict[str, str]:
        """The score and its spread."""
        network = self.features.load()
        name = "Inception score" if network.official else f"class score, {network.title}"
        return {
            name: f"exp of the mean Kullback-Leibler divergence of the classes that {network.title} sees in a drawn "
            f"picture from the mean of all, the mean over {self.splits} parts of the pictures; higher is better",
            f"{name}, deviation": "standard deviation over those parts",
        }

    def reset(self) -> None:
        """Forget all pictures."""
        self.counts = [0] * self.splits
        self.probabilities: list[Tensor | float] = [0.0] * self.splits
        self.negentropies: list[Tensor | float] = [0.0] * self.splits

    def update(self, real: Tensor, generated: Tensor, prompts: list[str]) -> None:
        """uint8[B, 3, H, W] twice, of any sizes."""
        probabilities = self.features.classes(generated)
        negentropy = torch.special.xlogy(probabilities, probabilities).sum(1)
        for row, part in enumerate((picture_keys(generated) % self.splits).tolist()):
            self.counts[part] += 1
            self.probabilities[part] = self.probabilities[part] + probabilities[row]
            self.negentropies[part] = self.negentropies[part] + negentropy[row]

    def compute(self) -> Tensor:
        """float64[2]: mean and deviation over the parts that have pictures; UserError of no picture."""
        scores = []
        for count, summed, negentropy in zip(self.counts, self.probabilities, self.negentropies, strict=True):
            if count:
                mean = summed / count
                scores.append(torch.exp(negentropy / count - torch.special.xlogy(mean, mean).sum()))
        if not scores:
            raise UserError("an Inception score needs 1 picture at least, and none came")
        return torch.stack([torch.stack(scores).mean(), torch.stack(scores).std(correction=0)])
