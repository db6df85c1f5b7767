"""What a sketch is solved by, against densities, exact factors and a brute-force minimum."""

from __future__ import annotations

import pytest
import torch
from muse_transformer.solving import SPREAD, discriminant, factorise
from torch.distributions import MultivariateNormal


def test_log_odds_are_those_of_gaussians():
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(4).repeat(50)
    x = torch.randn(200, 5, generator=generator) @ torch.randn(5, 5, generator=generator)
    x = x + 3 * torch.randn(4, 5, generator=generator)[classes]
    weight, bias = discriminant(x, classes, 4)
    means = torch.stack([x[classes == k].mean(0) for k in range(4)])
    rest = x - means[classes]
    within = rest.T @ rest / 200 + SPREAD * torch.eye(5)
    density = torch.stack([MultivariateNormal(mean, within).log_prob(x) for mean in means], -1)
    torch.testing.assert_close((x @ weight.T + bias).softmax(-1), density.softmax(-1), atol=1e-3, rtol=1e-3)


def test_pictures_that_have_factors_are_found():
    """20 things in 4 manners, which differ from what is usual in a manner by factors of rank 3."""
    generator = torch.Generator().manual_seed(0)
    looks, hands = torch.randn(20, 6, 3, generator=generator), torch.randn(4, 3, 8, generator=generator)
    usual = torch.randn(4, 6, 8, generator=generator)
    things, manners = torch.arange(20).repeat(4), torch.arange(4).repeat_interleave(20)
    looks = looks - looks.mean(0)
    pictures = torch.einsum("mnr,mrc->mnc", looks[things], hands[manners]) + usual[manners]
    found = factorise(pictures, things, manners, rank=3, ridge=1e-3, rounds=50, generator=generator)
    drawn = torch.einsum("mnr,mrc->mnc", found.looks[things], found.hands[manners]) + found.usual[manners]
    torch.testing.assert_close(found.usual, usual, atol=1e-4, rtol=1e-4)
    assert (drawn - pictures).square().mean() < 1e-4 * pictures.var()


def test_no_gradient_finds_less_than_it_does():
    """The ridge's own minimum over looks, given the hands that were found, by descent from zero."""
    generator = torch.Generator().manual_seed(1)
    things, manners = torch.arange(6).repeat(3), torch.arange(3).repeat_interleave(6)
    pictures = torch.randn(18, 2, 5, generator=generator)
    found = factorise(pictures, things, manners, rank=2, ridge=0.5, rounds=300, generator=generator)
    looks = torch.zeros_like(found.looks).requires_grad_()
    descent = torch.optim.LBFGS([looks], max_iter=200, line_search_fn="strong_wolfe")

    def left(looks: torch.Tensor) -> torch.Tensor:
        drawn = torch.einsum("mnr,mrc->mnc", looks[things], found.hands[manners]) + found.usual[manners]
        return (drawn - pictures).square().sum()

    def cost() -> torch.Tensor:
        descent.zero_grad()
        value = left(looks)
        value.backward()
        return value

    descent.step(cost)
    assert left(found.looks).item() == pytest.approx(left(looks.detach()).item(), rel=0.15)
    assert left(found.looks) < 0.75 * left(torch.zeros_like(found.looks)), "it explains nothing"


def test_each_round_is_told_of_and_the_same_seed_gives_the_same():
    told = []
    pictures, things, manners = torch.randn(6, 2, 3), torch.arange(3).repeat(2), torch.arange(2).repeat_interleave(3)
    first, second = (
        factorise(
            pictures,
            things,
            manners,
            2,
            rounds=5,
            generator=torch.Generator().manual_seed(0),
            tell=lambda: told.append(1),
        )
        for _ in range(2)
    )
    assert len(told) == 10
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
