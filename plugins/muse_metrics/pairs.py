"""Measures of a picture against its own original: how near it comes, pixel by pixel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.errors import UserError
from muse_studio.images.pixels import MOST_DB, psnr


class PairMetric(ABC):
    """The mean over pairs of pictures of some number a pair."""

    least = 1

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all pictures."""
        self.count, self.total = 0, torch.zeros((), dtype=torch.float64, device="cpu")

    def update(self, real: Tensor, generated: Tensor, prompts: list[str]) -> None:
        """uint8[B, 3, H, W] twice, row by row of the same thing; ValueError where they differ in size."""
        if real.shape != generated.shape:
            raise ValueError(
                f"pictures of {list(real.shape)} and {list(generated.shape)} can't be compared pixel by pixel; "
                "make them of one size"
            )
        self.count += len(real)
        self.total = self.total + self.measure(real.cpu().double(), generated.cpu().double()).sum()

    @abstractmethod
    def measure(self, real: Tensor, generated: Tensor) -> Tensor:
        """float64[B, 3, H, W] in 0..255 twice to float64[B]."""

    def compute(self) -> Tensor:
        """float64[1]; UserError of no picture."""
        if self.count == 0:
            raise UserError("a mean over pairs needs 1 pair of pictures at least, and none came")
        return (self.total / self.count)[None]


class PSNR(PairMetric):
    """Peak signal-to-noise ratio, in dB; higher is better. Of use for reconstructed pictures."""

    @property
    def meanings(self) -> dict[str, str]:
        """The ratio."""
        return {
            "PSNR, dB": "10 log10(255^2 / mean squared error) of each picture and its original, then the mean; "
            f"{MOST_DB:g} dB at most"
        }

    def measure(self, real: Tensor, generated: Tensor) -> Tensor:
        """The ratio of 8 bits a channel, in float64."""
        return psnr(generated, real, 255)


@dataclass
class SSIM(PairMetric):
    """Structural similarity (Wang et al. 2004) of each picture and its original; 1 is best.

    By torchmetrics: channel by channel, pictures going on mirrored at their edges, where other code leaves edges out.

    sigma: of the Gaussian window, in pixels.
    """

    sigma: float = 1.5

    def __post_init__(self) -> None:
        if self.sigma <= 0:
            raise ValueError(f"sigma is {self.sigma}; give pixels above 0")
        super().__init__()

    @property
    def meanings(self) -> dict[str, str]:
        """The similarity."""
        return {"SSIM": "structural similarity of each picture and its original, then the mean; 1 is best"}

    def measure(self, real: Tensor, generated: Tensor) -> Tensor:
        """torchmetrics' structural_similarity_index_measure; UserError where the window is larger than a picture."""
        from torchmetrics.functional.image import structural_similarity_index_measure

        side = 2 * int(3.5 * self.sigma + 0.5) + 1  # torchmetrics' window
        if min(real.shape[2:]) < side:
            raise UserError(
                f"SSIM looks at windows of {side} x {side} pixels, and pictures are {real.shape[2]} x {real.shape[3]}; "
                "make sigma smaller"
            )
        found = structural_similarity_index_measure(
            generated, real, sigma=self.sigma, data_range=255.0, reduction="none"
        )
        assert isinstance(found, Tensor)  # a pair only where the contrast is asked for too
        return found.reshape(len(real))
