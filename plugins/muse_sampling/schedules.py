"""Mask schedules: the share of tokens still masked, by progress (MaskGIT, section 3.3 and appendix; Muse, 2.6)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Schedule(ABC):
    """A curve from 1 at progress 0 to 0 at progress 1 that never rises; its ends are exact in any precision.

    Concave curves (cosine, square, cubic, exp) begin with few tokens a step, convex ones (sqrt, log) with many.
    """

    def __call__(self, progress: Tensor) -> Tensor:
        """float[...] in 0..1 to the masked share, float[...] in 0..1."""
        share = self.curve(progress).clamp(0.0, 1.0)
        share = torch.where(progress <= 0, torch.ones_like(share), share)
        return torch.where(progress >= 1, torch.zeros_like(share), share)

    @abstractmethod
    def curve(self, progress: Tensor) -> Tensor:
        """The formula; its values outside 0..1 and at the ends don't count."""


@dataclass(frozen=True)
class Cosine(Schedule):
    """cos(pi r / 2): MaskGIT's best and Muse's own, in training (section 2.6) and in sampling (section 2.8)."""

    def curve(self, progress: Tensor) -> Tensor:
        """Concave."""
        return torch.cos(progress * (math.pi / 2))


@dataclass(frozen=True)
class Linear(Schedule):
    """1 - r: as many tokens in the first step as in the last."""

    def curve(self, progress: Tensor) -> Tensor:
        """A straight line."""
        return 1 - progress


@dataclass(frozen=True)
class Square(Schedule):
    """1 - r^2: close to cosine."""

    def curve(self, progress: Tensor) -> Tensor:
        """Concave."""
        return 1 - progress**2


@dataclass(frozen=True)
class Cubic(Schedule):
    """1 - r^3: begins more carefully than cosine."""

    def curve(self, progress: Tensor) -> Tensor:
        """Concave."""
        return 1 - progress**3


@dataclass(frozen=True)
class Sqrt(Schedule):
    """1 - sqrt(r): most tokens early; MaskGIT found it worse than linear."""

    def curve(self, progress: Tensor) -> Tensor:
        """Convex."""
        return 1 - progress**0.5


@dataclass(frozen=True)
class Log(Schedule):
    """-log2(r) / log2(N): extremely many tokens early; MaskGIT's worst.

    tokens: N, the tokens of a grid; 1 up to r = 1/N.
    """

    tokens: int = 256

    def __post_init__(self) -> None:
        _at_least_two(self.tokens)

    def curve(self, progress: Tensor) -> Tensor:
        """Convex."""
        return -torch.log2(progress) / math.log2(self.tokens)


@dataclass(frozen=True)
class Exp(Schedule):
    """1 - 2^(-log2(N) (1 - r)): nearly all tokens in the last steps.

    tokens: N, the tokens of a grid; the formula gives 1 - 1/N at the start, where this gives 1.
    """

    tokens: int = 256

    def __post_init__(self) -> None:
        _at_least_two(self.tokens)

    def curve(self, progress: Tensor) -> Tensor:
        """Concave."""
        return 1 - torch.exp2((progress - 1) * math.log2(self.tokens))


def _at_least_two(tokens: int) -> None:
    if tokens < 2:
        raise ValueError(f"tokens is {tokens}; give the number of tokens of a grid, 2 or more")
