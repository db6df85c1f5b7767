"""What fills a sketch's tables: linear equations, solved at once, where gradient descent would take hours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SPREAD = 1e-4
"""Added to the variance of every direction of a text, whose vectors have length 1: fewer captions than it has numbers
leave some directions without any."""


class Factors(NamedTuple):
    """Pictures by what they show and how: float[things, N, rank], float[manners, rank, C], float[manners, N, C].

    A thing in a manner is looks[thing] @ hands[manner] + usual[manner].
    """

    looks: Tensor
    hands: Tensor
    usual: Tensor


def discriminant(x: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The log-odds of classes as a linear layer of float[N, D]: float[count, D] and float[count].

    Classes are taken for Gaussians of one covariance, that within classes, and equally likely (linear discriminant
    analysis, Fisher, 1936): what differs within a class, such as the words around a thing's name, counts little.
    """
    mean = _means(x, classes, count)
    rest = x - mean[classes]
    within = rest.T @ rest / len(x) + SPREAD * torch.eye(x.shape[1])
    weight = torch.cholesky_solve(mean.T, torch.linalg.cholesky(within)).T
    return weight, -(weight * mean).sum(-1) / 2


def factorise(
    pictures: Tensor,
    things: Tensor,
    manners: Tensor,
    rank: int,
    ridge: float = 1.0,
    rounds: int = 12,
    generator: torch.Generator | None = None,
    tell: Callable[[], None] = lambda: None,
) -> Factors:
    """Factors of float[M, N, C] that leave the least squares between them and the pictures, as far as rounds go.

    Alternating least squares with a ridge on both factors: looks given the hands, thing by thing, from the manners that
    it is known in; then hands given the looks. things, manners: int64[M]. tell: called after each round.
    """
    count, kinds = int(things.max()) + 1, int(manners.max()) + 1
    _, positions, channels = pictures.shape
    usual = _means(pictures.flatten(1), manners, kinds).unflatten(-1, (positions, channels))
    hands = torch.randn(kinds, channels, rank, generator=generator) * 0.1
    own = [(manners == kind).nonzero()[:, 0] for kind in range(kinds)]
    damping = ridge * torch.eye(rank)
    for _ in range(rounds):
        seen, drawn = torch.zeros(count, rank, rank), torch.zeros(count, positions, rank)
        for kind, rows in enumerate(own):
            seen.index_add_(0, things[rows], (hands[kind].T @ hands[kind]).expand(len(rows), -1, -1))
            drawn.index_add_(0, things[rows], (pictures[rows].float() - usual[kind]) @ hands[kind])
        looks = torch.linalg.solve(seen + damping, drawn.transpose(1, 2)).transpose(1, 2)
        looks = looks / looks.std().clamp(min=1e-8)  # else one factor could shrink and the other grow, past the ridge
        for kind, rows in enumerate(own):
            look = looks[things[rows]].flatten(0, 1)
            rest = (pictures[rows].float() - usual[kind]).flatten(0, 1)
            hands[kind] = torch.linalg.solve(look.T @ look + damping, look.T @ rest).T
        tell()
    return Factors(looks.contiguous(), hands.transpose(1, 2).contiguous(), usual)


def _means(x: Tensor, classes: Tensor, count: int) -> Tensor:
    """The mean of the rows of each class, float[count, D]."""
    total = torch.zeros(count, x.shape[1]).index_add_(0, classes, x.float())
    return total / torch.bincount(classes, minlength=count).clamp(min=1).unsqueeze(1)
