"""aMUSEd's sampler: its temperatures and counts by hand. What it draws is held against diffusers with the weights."""

import pytest
import torch
from muse_amused.sampler import Amused
from muse_sampling.schedules import Cosine, Linear

from muse_studio.contracts import MASK


def test_the_temperature_goes_evenly_from_the_first_step_to_the_last():
    sampler = Amused(steps=5, temperature=[2.0, 0.0])
    assert [sampler.order_temperature((i + 1) / 5) for i in range(5)] == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])
    assert Amused(steps=1).order_temperature(1.0) == 2.0
    last = Amused(steps=2, of=5, temperature=[2.0, 0.0])
    assert [last.order_temperature((i + 1) / 2) for i in range(2)] == pytest.approx([0.5, 0.0])


def test_counts_are_those_of_float32():
    blank = torch.full((1, 16, 16), MASK)
    counts = Amused(steps=12).counts(Cosine(), blank)[:, 0].tolist()
    assert counts[:8] == [253, 247, 236, 221, 203, 181, 155, 127], "256 cos(pi / 3) is 127 in float32"
    assert counts[-1] == 0
    half = blank.clone()
    half[:, :8] = 3
    assert Amused(steps=4).counts(Linear(), half)[:, 0].tolist() == [96, 64, 32, 0]
    assert Amused(steps=2, of=4).counts(Linear(), half)[:, 0].tolist() == [64, 0], (
        "a quarter of all places, not of half"
    )


def test_fewer_than_the_steps_are_refused():
    with pytest.raises(ValueError, match="of is 3; give as many as there are steps, 4, or more, or null"):
        Amused(steps=4, of=3)
