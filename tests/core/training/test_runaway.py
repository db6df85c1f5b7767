"""A loss that runs away: told by the rows alone, against a reading of the whole log at each row."""

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_studio.training.health import Trend


def rows_of(losses, every=10):
    return [{"step": every * place, "loss": loss, "norm": 1.0} for place, loss in enumerate(losses, 1)]


def first_stop(losses, factor=3.0, warmup=0):
    trend = Trend(None, factor, warmup)
    return next((row["step"] for row in rows_of(losses) if trend.follow(row)), None)


def first_stop_by_the_book(losses, factor, warmup):
    for count in range(1, len(losses) + 1):
        medians = [median(losses[end - 5 : end]) for end in range(5, count + 1)]
        if count > 10 and 10 * count > warmup and medians[-1] > factor * max(min(medians), medians[0] / 10):
            return 10 * count
    return None


numbers = st.floats(0.01, 100, allow_nan=False)


@given(st.lists(numbers, max_size=40), st.sampled_from([1.1, 2.0, 3.0]), st.sampled_from([0, 150, 200]))
def test_it_stops_where_a_reading_of_the_whole_log_does(losses, factor, warmup):
    assert first_stop(losses, factor, warmup) == first_stop_by_the_book(losses, factor, warmup)


FALLING = [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 2.0, 2.0, 2.0, 2.0]


def test_it_takes_three_of_five_rows():
    assert first_stop([*FALLING, 7.0, 7.0]) is None
    assert first_stop([*FALLING, 7.0, 7.0, 2.0, 2.0, 2.0, 2.0]) is None
    assert first_stop([*FALLING, 7.0, 7.0, 7.0]) == 140
    assert first_stop([*FALLING, 6.0, 6.0, 6.0, 6.0, 6.0]) is None, "three times is not more than three times"


def test_the_warm_up_and_the_first_ten_rows_are_spared():
    early = [1.0] * 5 + [9.0] * 5
    assert first_stop(early) is None
    assert first_stop([*early, 9.0]) == 110
    assert first_stop([*FALLING, *[9.0] * 9], warmup=170) == 180


def test_what_was_low_while_the_rate_warmed_up_counts():
    assert first_stop([*[1.0] * 10, *[4.0] * 5], warmup=120) == 130


@pytest.mark.parametrize("losses", [[0.0] * 10 + [5.0] * 10, [-1.0] * 10 + [5.0] * 10])
def test_nothing_is_so_many_times_nothing(losses):
    assert first_stop(losses) is None


def test_a_loss_near_zero_may_stumble():
    learned = [*FALLING, *[0.02] * 5]
    assert first_stop([*learned, *[1.7] * 9]) is None, "three tenths of the first median, 6, is 1.8"
    assert first_stop([*learned, *[1.9] * 9]) == 190


def test_never_is_never():
    trend = Trend(None, None, 0)
    assert not any(trend.follow(row) for row in rows_of([*FALLING, *[1e9] * 20]))
    assert trend.is_calm


def test_another_number_may_be_followed_and_may_be_missing():
    trend = Trend("pixels", 3.0, 0)
    rows = [{"step": step, "loss": 1.0 + 100 * (step > 12), "pixels": 0.1} for step in range(1, 20)]
    assert not any(trend.follow(row) for row in [*rows, {"step": 20, "loss": 3.0}])
    assert (trend.calm, trend.median) == (19, 0.1)


def test_the_last_calm_row_is_before_the_rise():
    trend = Trend(None, 3.0, 0)
    calm = []
    for row in rows_of([*FALLING, 2.1, 3.0, 3.6, 4.5, 7.0, 9.0]):
        trend.follow(row)
        calm.append((trend.calm, trend.is_calm))
    edge = math.sqrt(3) * 2.0
    assert 3.0 < edge < 3.6
    assert calm[-6:] == [(120, True), (130, True), (130, False), (130, False), (130, False), (130, False)]


def test_a_single_bad_batch_is_forgotten():
    trend = Trend(None, 3.0, 0)
    for row in rows_of([*FALLING, 9.0, 2.0]):
        trend.follow(row)
    assert (trend.calm, trend.is_calm) == (130, True)
