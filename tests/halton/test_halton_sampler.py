"""The order of a Halton sequence: by hand, by fractions, and over the masked places alone."""

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_halton.sampler import Halton, halton_rank
from muse_sampling.schedules import Linear

from muse_studio.contracts import MASK


def phi(number, base):
    """The digits of a number, mirrored at the point."""
    value, share = Fraction(0), Fraction(1)
    while number:
        share /= base
        value += share * (number % base)
        number //= base
    return value


def plain_order(height, width):
    """The places of a grid as the sequence first hits them, one point at a time."""
    order, point = [], 0
    while len(order) < height * width:
        point += 1
        place = floor(height * phi(point, 2)), floor(width * phi(point, 3))
        if place not in order:
            order.append(place)
    return order


def ranked(height, width):
    """The places in the order of their ranks."""
    flat = halton_rank(height, width).flatten().argsort().tolist()
    return [divmod(place, width) for place in flat]


def test_the_sequence_begins_as_computed_by_hand():
    """Points 1 to 10: (1/2, 1/3) (1/4, 2/3) (3/4, 1/9) (1/8, 4/9) (5/8, 7/9) (3/8, 2/9) (7/8, 5/9) (1/16, 8/9) and on.

    Times 4, rounded down; point 10 is (5/16, 10/27).
    """
    by_hand = [(2, 1), (1, 2), (3, 0), (0, 1), (2, 3), (1, 0), (3, 2), (0, 3), (2, 0), (1, 1)]
    assert ranked(4, 4)[:10] == by_hand


def test_a_place_that_is_hit_again_is_passed_over():
    """2 x 2: point 3, (3/4, 1/9), hits row 1 and column 0 as point 1 does, (1/2, 1/3)."""
    assert ranked(2, 2) == [(1, 0), (0, 1), (0, 0), (1, 1)]
    assert [floor(2 * phi(point, 2)) for point in (1, 2, 3, 4, 5)] == [1, 0, 1, 0, 1]


@given(st.integers(1, 14), st.integers(1, 14))
@settings(max_examples=40)
def test_any_grid_is_covered_in_the_order_of_exact_fractions(height, width):
    assert ranked(height, width) == plain_order(height, width)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (1, 100), (100, 1), (32, 48)])
def test_large_grids_are_covered_once(height, width):
    assert halton_rank(height, width).flatten().sort().values.tolist() == list(range(height * width))


def test_each_step_is_spread_over_the_plane():
    """Each 4 x 4 block has 3 to 5 of the first 64 of 16 x 16 places; of 2,000 random orders one did as well."""
    first = halton_rank(16, 16) < 64
    in_blocks = first.view(4, 4, 4, 4).sum((1, 3))
    assert in_blocks.min() >= 3 and in_blocks.max() <= 5


def one_by_one(tokens, seed=0, **given_):
    """The places that are filled, in their order, of a grid that is filled by one token a step."""
    masked = int((tokens[0] == MASK).sum())
    sampler = Halton(steps=masked, **given_)
    before, orders = tokens, [[] for _ in tokens]
    logits = torch.zeros(*tokens.shape, 5)
    for grid in sampler(lambda *_: logits, tokens, Linear(), torch.Generator().manual_seed(seed)):
        for picture, place in enumerate(((before == MASK) & (grid != MASK)).flatten(1).nonzero()):
            orders[int(place[0])].append(divmod(int(place[1]), tokens.shape[-1]))
            assert picture == place[0]
        before = grid
    return orders


def test_places_are_filled_in_that_order():
    assert one_by_one(torch.full((2, 4, 6), MASK)) == [plain_order(4, 6)] * 2


def test_known_places_are_passed_over_and_the_order_of_the_others_stays():
    tokens = torch.full((2, 4, 6), MASK)
    tokens[0, :2], tokens[1, :, 3:] = 1, 2
    order = plain_order(4, 6)
    upper, right = [place for place in order if place[0] >= 2], [place for place in order if place[1] < 3]
    assert one_by_one(tokens) == [upper, right]


def test_a_roll_begins_elsewhere_and_goes_round():
    order = plain_order(4, 6)
    rolled = one_by_one(torch.full((8, 4, 6), MASK), roll=True)
    for each in rolled:
        begin = order.index(each[0])
        assert each == order[begin:] + order[:begin]
    assert len({each[0] for each in rolled}) > 4
    assert one_by_one(torch.full((8, 4, 6), MASK), roll=True) == rolled
    assert one_by_one(torch.full((8, 4, 6), MASK), seed=1, roll=True) != rolled
