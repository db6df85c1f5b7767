"""Inpainting, mask-free editing and variations: which tokens are sampled again, and how often (Muse, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import MASK
from muse_studio.errors import SettingError

Resample = Callable[[Tensor], Iterator[Tensor]]


@dataclass(frozen=True)
class Inpaint:
    """Samples the region anew, given all around it: inpainting, and outpainting where the region lies outside."""

    def __call__(
        self, tokens: Tensor, region: Tensor, resample: Resample, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] and bool[B, h, w]; yields what the sampler yields."""
        yield from resample(torch.where(region, MASK, tokens))


@dataclass(frozen=True)
class MaskFree:
    """Samples a few tokens anew, again and again, so that the picture drifts towards the prompt: Gibbs sampling.

    No region need be known: what fits the prompt already is likely to be drawn again as it was. The sampler's steps are
    those of one iteration; Muse samples once, with top_k 3 and a guidance scale of 4, which recipes say of the sampler
    and of guidance.

    fraction: of the region's tokens that each iteration samples anew, at least one. iterations: how often; each is
    yielded, as stopping earlier changes less. The defaults are Muse's.
    """

    fraction: float = 0.08
    iterations: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise SettingError(
                "fraction", f"fraction is {self.fraction}; give a share of the tokens, above 0 and up to 1"
            )
        if self.iterations < 1:
            raise SettingError("iterations", f"iterations is {self.iterations}; give 1 or more")

    def __call__(
        self, tokens: Tensor, region: Tensor, resample: Resample, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] and bool[B, h, w]; yields `iterations` finished grids."""
        for _ in range(self.iterations):
            *_, tokens = resample(torch.where(random_part(region, self.fraction, generator), MASK, tokens))
            yield tokens


@dataclass(frozen=True)
class Variations:
    """Forgets tokens by lot and samples them anew, given the others: image to image.

    strength: the share of the region's tokens that is forgotten; 0 keeps the picture, 1 forgets it.
    """

    strength: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise SettingError("strength", f"strength is {self.strength}; give 0 (keeps the picture) to 1 (forgets it)")

    def __call__(
        self, tokens: Tensor, region: Tensor, resample: Resample, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """int64[B, h, w] and bool[B, h, w]; yields what the sampler yields."""
        if self.strength == 0:
            yield tokens
            return
        yield from resample(torch.where(random_part(region, self.strength, generator), MASK, tokens))


def random_part(region: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """bool[B, h, w]: in each picture, a `share`, above 0, of the region's places, rounded up, drawn by lot."""
    lots = torch.rand(region.shape, generator=generator, device=generator.device).to(region.device)
    rank = lots.masked_fill(~region, math.inf).flatten(1).argsort(1).argsort(1)
    # a billionth less, as 0.07 x 100 is a little above 7
    wanted = (region.flatten(1).sum(1, keepdim=True).double() * share - 1e-9).ceil().clamp(min=1)
    return (rank < wanted).view_as(region) & region
