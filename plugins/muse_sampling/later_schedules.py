"""Mask schedules from after MaskGIT and Muse: arccos, sigmoid, any power, and any curve given by its points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from muse_sampling.schedules import Schedule


@dataclass(frozen=True)
class Arccos(Schedule):
    """(2 / pi) arccos(r): "arccos" as TiTok, MaskBit and the code of the Halton sampler have it.

    NOT what Muse calls a truncated arccos distribution: that is the schedule `cosine`, whose ratios of uniform numbers
    have the density (2 / pi) (1 - x^2)^(-1/2), greatest towards 1 and 2 / pi at 0. Here it is (pi / 2) sin(pi x / 2):
    0 at 0 and pi / 2 at 1, so that training hardly ever sees a grid that is nearly known. The mean is 2 / pi in both.
    """

    def curve(self, progress: Tensor) -> Tensor:
        """Concave: nearly straight at first, and ever steeper at the end, without bound."""
        return torch.arccos(progress) * (2 / math.pi)


@dataclass(frozen=True)
class Sigmoid(Schedule):
    """(S(end) - S(start + (end - start) r)) / (S(end) - S(start)), S(x) = 1 / (1 + exp(-x / tau)).

    The noise schedule of Jabri et al. (RIN, 2022) and Chen (2023), as open-muse takes it for masks. Slow at both ends
    where 0 is halfway between start and end; only the end is slow with start 0.

    start, end: the piece of the sigmoid that is used.
    tau: smaller is steeper. The default of all three is open-muse's.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau is {self.tau}; give more than 0")
        if not -math.inf < self.start < self.end < math.inf:
            raise ValueError(f"start is {self.start}, end is {self.end}; give an end greater than the start")
        if _sigmoid(self.end / self.tau) - _sigmoid(self.start / self.tau) < 0.1:  # rounding to float32 would show
            raise ValueError(
                f"start is {self.start}, end is {self.end}, tau is {self.tau}, where the sigmoid climbs by less than "
                "0.1; move them apart, or to both sides of 0"
            )

    def curve(self, progress: Tensor) -> Tensor:
        """Concave first, convex behind 0."""
        first, last = _sigmoid(self.start / self.tau), _sigmoid(self.end / self.tau)
        here = torch.sigmoid((self.start + (self.end - self.start) * progress) / self.tau)
        return (last - here) / (last - first)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """1 - r^exponent: MaskGIT's `pow`; 0.5, 1, 2 and 3 are the schedules sqrt, linear, square and cubic.

    exponent: below 1 begins with many tokens a step, above 1 with few.
    """

    exponent: float

    def __post_init__(self) -> None:
        if not 0 < self.exponent < math.inf:
            raise ValueError(f"exponent is {self.exponent}; give more than 0")

    def curve(self, progress: Tensor) -> Tensor:
        """Concave above 1, convex below."""
        return 1 - progress**self.exponent


@dataclass(frozen=True)
class Steps(Schedule):
    """The masked share after each step, as a search finds them (AutoNAT, Ni et al. 2024), and straight lines between.

    So a sampler of as many steps masks exactly these shares, one of another number follows the same curve, and training
    draws from it.

    ratios: one a step, in 0..1, never rising; the last step leaves nothing masked, so the last is 0. (AutoNAT's files
        leave that 0 away.)
    """

    ratios: list[float]

    def __post_init__(self) -> None:
        count = len(self.ratios)
        if not self.ratios:
            raise ValueError("ratios is empty; give a masked share for each step, 0 for the last")
        for number, ratio in enumerate(self.ratios, start=1):
            if not 0 <= ratio <= 1:
                raise ValueError(f"ratios: entry {number} of {count} is {ratio}; give a masked share from 0 to 1")
        for number, (before, ratio) in enumerate(pairwise(self.ratios), start=2):
            if ratio > before:
                message = f"ratios: entry {number} of {count} is {ratio}, after {before}"
                raise ValueError(f"{message}; a masked share never rises")
        if self.ratios[-1] != 0:
            last = self.ratios[-1]
            raise ValueError(f"ratios: entry {count} of {count} is {last}; the last step leaves nothing masked, give 0")

    def curve(self, progress: Tensor) -> Tensor:
        """A polygon through (0, 1) and (i / n, ratio i)."""
        points = torch.tensor([1.0, *self.ratios], dtype=progress.dtype, device=progress.device)
        position = progress * len(self.ratios)
        left = position.long().clamp(0, len(self.ratios) - 1)
        return torch.lerp(points[left], points[left + 1], position - left)


def _sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2  # exp(-x) would overflow
