"""A code by lot, against numpy's search in the cumulated probabilities."""

import numpy as np
import torch

from muse_studio.sampling.noise import choose


def test_a_uniform_number_falls_into_one_code_s_share():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(7, 4)
    assert choose(logits, torch.tensor([0.0, 0.09, 0.11, 0.29, 0.31, 0.59, 0.61])).tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_equals_a_search_in_the_cumulated_probabilities():
    generator = torch.Generator().manual_seed(0)
    logits, uniform = torch.randn(500, 9, generator=generator), torch.rand(500, generator=generator)
    chances = np.exp(logits.double().numpy())
    cumulated = np.cumsum(chances / chances.sum(-1, keepdims=True), -1)
    expected = [np.searchsorted(row, place, "right") for row, place in zip(cumulated, uniform.numpy(), strict=True)]
    assert choose(logits, uniform).tolist() == expected


def test_a_code_without_any_chance_is_never_chosen():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf]).expand(3, 3)
    assert choose(logits, torch.tensor([0.0, 0.5, 1 - 2**-24])).tolist() == [1, 1, 1]
