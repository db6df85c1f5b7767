"""The order of records: a permutation an epoch, computed from (seed, step) alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_studio.errors import UserError
from muse_studio.training.order import Order, key_of, permuted


@given(st.integers(1, 300), st.integers(0, 2**64 - 1))
def test_a_permutation_reaches_every_place_once(length, key):
    assert sorted(permuted(index, length, key) for index in range(length)) == list(range(length))


@given(st.integers(1, 2**40), st.integers(0, 2**64 - 1), st.data())
def test_long_ranges_stay_within_themselves(length, key, data):
    first, second = (data.draw(st.integers(0, length - 1)) for _ in range(2))
    here, there = permuted(first, length, key), permuted(second, length, key)
    assert 0 <= here < length and 0 <= there < length
    assert (here == there) == (first == second)


def test_every_place_is_equally_likely():
    counts = Counter(permuted(3, 1000, key_of("somewhere", key)) // 100 for key in range(5000))
    chi_squared = sum((counts[tenth] - 500) ** 2 / 500 for tenth in range(10))
    assert chi_squared < 27.9  # the 0.1% point of 9 degrees of freedom


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 9))
def test_each_epoch_has_every_record_once(length, batch, seed):
    epochs = 3
    steps = -(-epochs * length // batch)
    flat = [index for step in Order(length, batch, seed, 0, steps) for index in step]
    for epoch in range(epochs):
        assert sorted(flat[epoch * length : (epoch + 1) * length]) == list(range(length))


def test_epochs_and_seeds_differ():
    def epoch(seed, number):
        return [step[0] for step in Order(100, 1, seed, 100 * number, 100 * number + 100)]

    orders = [epoch(seed, number) for seed in range(3) for number in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert all(order != sorted(order) for order in orders)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 30), st.integers(0, 30))
def test_a_later_start_gives_what_an_earlier_one_comes_to(length, batch, start, more):
    through = list(Order(length, batch, 5, 0, start + more))
    order = Order(length, batch, 5, start, start + more)
    assert list(order) == through[start:]
    assert len(order) == more


def test_a_key_is_the_same_in_every_process():
    assert key_of(0, 1, "mask") == 9888685892513323942
    assert key_of(0, 1, "mask") != key_of(0, 1, "text")


def test_no_record_at_all():
    with pytest.raises(UserError, match="no record to train on; check its path, its split"):
        Order(0, 1, 0, 0, 1)
