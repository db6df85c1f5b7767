"""Drawing one code for each place: the right frequencies, and never what was ruled out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_studio.sampling.filling import log_likelihood
from muse_studio.sampling.settings import Codes, draw, keep_top_k, keep_top_p

LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()


def frequencies(temperature=1.0, top_k=None, top_p=None):
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    codes = draw(LOGITS.expand(10_000, 4), uniform, temperature, top_k, top_p)
    return (torch.bincount(codes, minlength=4) / 10_000).tolist()


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        ({"temperature": 0.0}, [0, 1, 0, 0]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 9}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.3}, [0, 1, 0, 0]),
        ({"top_p": 0.6}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 1.0}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 3, "top_p": 0.5}, [0, 4 / 7, 0, 3 / 7]),
        ({"temperature": 0.5, "top_p": 0.5}, [0, 1, 0, 0]),
    ],
)
def test_frequencies_are_the_probabilities(settings_, expected):
    assert frequencies(**settings_) == pytest.approx(expected, abs=2e-4)


@given(
    st.integers(0, 2**31),
    st.integers(2, 300),
    st.sampled_from([0.0, 0.5, 1 - 2**-24]),
    st.sampled_from([1e-4, 1.0, 50.0]),
)
@settings(max_examples=200, deadline=None)
def test_a_code_without_probability_is_never_drawn(seed, codes, uniform, spread):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, codes, generator=generator) * spread
    allowed = torch.rand(5, codes, generator=generator) < 0.5
    allowed[:, seed % codes] = True
    drawn = draw(logits.masked_fill(~allowed, -torch.inf), torch.full((5,), uniform), 1.0, None, None)
    assert allowed.gather(-1, drawn[:, None]).all()


@pytest.mark.parametrize(("k", "kept"), [(1, [1]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_so_many_codes_stay_the_first_of_equal_ones(k, kept):
    logits = torch.tensor([1.0, 2.0, 1.0, 0.0])
    assert keep_top_k(logits, k).isfinite().nonzero().flatten().tolist() == kept


def test_of_equal_logits_top_1_leaves_one():
    assert keep_top_k(torch.zeros(3, 7), 1).isfinite().sum(-1).tolist() == [1, 1, 1]


def test_top_p_keeps_the_likeliest_even_where_p_is_tiny():
    assert keep_top_p(LOGITS, 1e-9).isfinite().tolist() == [False, True, False, False]


def test_the_logits_are_left_alone():
    logits = LOGITS.expand(3, 4).clone()
    draw(logits, torch.rand(3), 0.7, 2, 0.9)
    assert torch.equal(logits, LOGITS.expand(3, 4))


@pytest.mark.parametrize("settings_", [{}, {"sampling_temperature": 0.5, "top_k": 9, "top_p": 0.9}])
@pytest.mark.parametrize("shape", [(3, 7, 50), (1, 7, 50), (3, 0, 50)])
def test_pictures_of_a_batch_draw_what_they_draw_at_once(shape, settings_):
    torch.manual_seed(0)
    logits, uniform = torch.randn(shape), torch.rand(shape[:2])
    sampler = Codes(**settings_)
    codes = sampler.draw(logits, uniform, progress=0.5)
    at_once = draw(logits, uniform, sampler.sampling_temperature, sampler.top_k, sampler.top_p)
    assert torch.equal(codes, at_once)
    expected = logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0]
    assert torch.equal(log_likelihood(logits, codes), expected)
