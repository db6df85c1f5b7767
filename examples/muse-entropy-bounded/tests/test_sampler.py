"""eb-sampler keeps the promises of a sampler, and its bound is the one that a search of prefixes finds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from muse_studio import testing
from muse_studio.contracts import MASK
from torch import Tensor

from muse_entropy_bounded.sampler import EntropyBounded, chosen, entropy


class TestEntropyBounded(testing.SamplerContract):
    def make(self) -> EntropyBounded:
        return EntropyBounded(gamma=2.0, steps=6)


def searched(entropies: list[float], masked: list[bool], gamma: float) -> set[int]:
    """By brute force: of all prefixes of the masked places in rising entropy, the longest that keeps the bound."""
    order = sorted((place for place in range(len(masked)) if masked[place]), key=lambda place: entropies[place])
    best: set[int] = set(order[:1])
    for length in range(2, len(order) + 1):
        prefix = [entropies[place] for place in order[:length]]
        if math.fsum(prefix) - max(prefix) <= gamma:
            best = set(order[:length])
    return best


# Sixteenths add up exactly, so that rounding never decides on which side of the bound a sum lies.
SIXTEENTHS = st.integers(0, 64).map(lambda sixteenths: sixteenths / 16)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(st.lists(st.tuples(SIXTEENTHS, st.booleans()), min_size=12, max_size=12), SIXTEENTHS)
def test_the_bound_is_that_of_a_search(places: list[tuple[float, bool]], gamma: float) -> None:
    entropies, masked = [value for value, _ in places], [flag for _, flag in places]
    got = chosen(torch.tensor(entropies).view(1, 3, 4), torch.tensor(masked).view(1, 3, 4), gamma)
    assert set(got.flatten().nonzero().flatten().tolist()) == searched(entropies, masked, gamma)


def test_entropy_is_torch_s_own() -> None:
    logits = 3 * torch.randn(2, 3, 4, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(entropy(logits), torch.distributions.Categorical(logits=logits).entropy())
    assert entropy(torch.tensor([0.0, -math.inf])).item() == 0


def known_after_each_step(gamma: float, logits: Tensor) -> tuple[list[int], int]:
    """How many tokens are known after each of 8 steps, and how often the model was asked."""
    predict = testing.FakePredict(logits)
    sampler = EntropyBounded(gamma=gamma, steps=8)
    blank = torch.full(logits.shape[:3], MASK)
    grids = sampler(predict, blank, testing.FakeSchedule(), torch.Generator().manual_seed(0))
    return [int((grid != MASK).sum()) for grid in grids], len(predict.asked)


def test_a_gamma_of_0_fills_one_token_at_a_time_and_all_in_the_last_step() -> None:
    assert known_after_each_step(0.0, torch.zeros(1, 3, 4, 16)) == ([1, 2, 3, 4, 5, 6, 7, 12], 8)


def test_each_step_fills_one_token_more_than_the_bound_holds_of_equal_ones() -> None:
    bound = 2.5 * math.log(16)  # of 16 equally likely codes each token has ln 16 nats: the sum less one holds two
    assert known_after_each_step(bound, torch.zeros(1, 3, 4, 16)) == ([3, 6, 9, 12, 12, 12, 12, 12], 4)


def test_what_is_certain_takes_one_step() -> None:
    certain = torch.zeros(1, 3, 4, 16)
    certain[..., 5] = 1e4
    assert known_after_each_step(0.0, certain) == ([12] * 8, 1)


@pytest.mark.parametrize("given_settings", [{"gamma": -1.0}, {"steps": 0}, {"temperature": 0.0}])
def test_a_setting_that_can_t_be_is_refused(given_settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given_settings))} is"):
        EntropyBounded(**given_settings)
