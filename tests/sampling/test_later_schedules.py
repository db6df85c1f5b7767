"""Arccos, sigmoid, powers and points: by hand, against their densities, and by what they refuse."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_sampling.later_schedules import Arccos, Polynomial, Sigmoid, Steps
from muse_sampling.schedules import Cosine, Cubic, Linear, Sqrt, Square

from muse_studio.recipe.merging import load
from muse_studio.sampling.settings import masked_counts

GRID = torch.linspace(0, 1, 101, dtype=torch.float64)
AUTONAT = load("autonat").plain()["stages"]["base"]["schedule"]["ratios"]


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        (Arccos(), 0.5, 2 / 3),  # cos(pi / 3) is 1 / 2
        (Arccos(), math.sqrt(0.5), 0.5),
        (Sigmoid(), 0.5, 0.5),
        (Sigmoid(-1.0, 3.0), 0.25, (1 / (1 + math.exp(-3)) - 0.5) / (1 / (1 + math.exp(-3)) - 1 / (1 + math.exp(1)))),
        (Sigmoid(0.0, 2 * math.log(3), 2.0), 0.5, (3 / 4 - math.sqrt(3) / (1 + math.sqrt(3))) / (3 / 4 - 1 / 2)),
        (Polynomial(1.5), 0.25, 7 / 8),
        (Polynomial(4.0), 0.5, 15 / 16),
        (Steps([0.8, 0.4, 0.4, 0.0]), 0.125, 0.9),
        (Steps([0.8, 0.4, 0.4, 0.0]), 0.25, 0.8),
        (Steps([0.8, 0.4, 0.4, 0.0]), 0.4375, 0.5),
        (Steps([0.8, 0.4, 0.4, 0.0]), 0.6, 0.4),
        (Steps([0.8, 0.4, 0.4, 0.0]), 0.9375, 0.1),
    ],
)
def test_values_by_hand(schedule, progress, expected):
    assert schedule(torch.tensor(progress, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-12)


def test_arccos_of_uniform_numbers_has_the_density_that_it_says_and_not_muses():
    uniform = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    edges = np.linspace(0, 1, 11)
    for schedule, below in (
        (Arccos(), 1 - np.cos(math.pi * edges / 2)),  # the integral of (pi / 2) sin(pi x / 2)
        (Cosine(), 2 / math.pi * np.arcsin(edges)),  # of (2 / pi) (1 - x^2)^(-1/2)
    ):
        ratios = schedule(uniform).numpy()
        assert ratios.mean() == pytest.approx(2 / math.pi, abs=1e-5)
        shares = np.histogram(ratios, edges)[0] / len(ratios)
        np.testing.assert_allclose(shares, np.diff(below), atol=2e-5)
    assert Arccos()(uniform).lt(0.1).double().mean() < 0.013 < 0.06 < Cosine()(uniform).lt(0.1).double().mean()


@pytest.mark.parametrize(
    ("exponent", "named"), [(0.5, Sqrt()), (1.0, Linear()), (2.0, Square()), (3.0, Cubic())], ids=repr
)
def test_a_polynomial_is_the_schedule_that_has_a_name(exponent, named):
    torch.testing.assert_close(Polynomial(exponent)(GRID), named(GRID))


def test_a_sigmoid_is_symmetric_and_straightens_with_tau():
    shares = Sigmoid()(GRID)
    torch.testing.assert_close(shares + shares.flip(0), torch.ones_like(shares))
    assert (Sigmoid(tau=100.0, start=-30.0, end=30.0)(GRID) - Linear()(GRID)).abs().max() < 0.01


@st.composite
def falling(draw):
    ratios = sorted(draw(st.lists(st.floats(0, 1), min_size=0, max_size=60)), reverse=True)
    return [*ratios, 0.0]


@given(falling())
@settings(max_examples=100, deadline=None)
def test_steps_are_numpys_interpolation(ratios):
    expected = np.interp(GRID.numpy(), np.arange(len(ratios) + 1) / len(ratios), [1.0, *ratios])
    np.testing.assert_allclose(Steps(ratios)(GRID).numpy(), expected, atol=1e-12)


@given(falling())
@settings(max_examples=50, deadline=None)
def test_a_sampler_of_as_many_steps_masks_just_these_shares(ratios):
    steps, tokens = len(ratios), 4096
    counts = masked_counts(Steps(ratios), steps, tokens)[:, tokens].tolist()
    masked = tokens
    for ratio, count in list(zip(ratios, counts, strict=True))[:-1]:
        masked = max(1, min(masked - 1, math.floor(tokens * ratio + 1e-6)))
        assert count == masked


def test_the_recipes_ratios_leave_what_autonats_own_code_leaves():
    left = [256, *masked_counts(Steps(AUTONAT), 8, 256)[:, 256].tolist()]
    assert left == [256, 244, 225, 203, 190, 159, 104, 66, 0]  # floor(256 x ratio) of all its digits
    assert all(before > after for before, after in pairwise(left))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sigmoid(tau=0.0), "tau is 0.0; give more than 0"),
        (lambda: Sigmoid(tau=math.nan), "tau is nan; give more than 0"),
        (lambda: Sigmoid(3.0, -3.0), "start is 3.0, end is -3.0; give an end greater than the start"),
        (lambda: Sigmoid(0.0, math.inf), "start is 0.0, end is inf; give an end greater than the start"),
        (lambda: Sigmoid(5.0, 9.0), "start is 5.0, end is 9.0, tau is 1.0, where the sigmoid climbs by less than 0.1"),
        (lambda: Sigmoid(-3e9, -2e9), "move them apart, or to both sides of 0"),
        (lambda: Polynomial(0.0), "exponent is 0.0; give more than 0"),
        (lambda: Polynomial(math.inf), "exponent is inf; give more than 0"),
        (lambda: Steps([]), "ratios is empty; give a masked share for each step, 0 for the last"),
        (lambda: Steps([0.9, 0.4]), "ratios: entry 2 of 2 is 0.4; the last step leaves nothing masked, give 0"),
        (lambda: Steps([0.9, 1.4, 0.0]), "ratios: entry 2 of 3 is 1.4; give a masked share from 0 to 1"),
        (lambda: Steps([math.nan, 0.0]), "ratios: entry 1 of 2 is nan; give a masked share from 0 to 1"),
        (lambda: Steps([0.5, 0.4, 0.41, 0.0]), "ratios: entry 3 of 4 is 0.41, after 0.4; a masked share never rises"),
    ],
)
def test_settings_that_can_not_be(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
