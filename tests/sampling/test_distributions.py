"""Samplers against the exact joint distribution of a model small enough to enumerate.

Unbiased by theory, where the places that one step fixes are independent given what it knew: always for a product
distribution, and for any distribution with one token a step. That holds for `random`, `halton` and `remdm` (cap,
rescale and loop), whose orders know nothing of what was drawn, and for those by confidence where noise drowns it.
Biased by design are `confidence`, `gumbel` and `predictor-corrector`, whose order depends on the drawn values: of the
codes that are drawn, likely ones stay and unlikely ones are drawn again. So is `remdm`'s conf, which takes unlikely
codes back. The test is chi-square over all grids that there are, with fixed seeds.
"""

import itertools

import pytest
import torch
from muse_halton.sampler import Halton
from muse_sampling.confidence import Confidence
from muse_sampling.gumbel import Gumbel
from muse_sampling.predictor_corrector import PredictorCorrector
from muse_sampling.remdm import ReMDM
from muse_sampling.schedules import Cosine, Linear
from muse_sampling.shuffled import Random

from muse_studio.contracts import MASK

pytestmark = pytest.mark.slow  # twenty thousand pictures a case, some minutes in all

PICTURES = 20_000
HEIGHT, WIDTH, PLACES, CODES = 2, 3, 6, 2
GRIDS = torch.tensor(list(itertools.product(range(CODES), repeat=PLACES)))
"""Every grid there is, int64[64, 6], in the order of the numbers that they spell."""

NOISE = [1e6, 1e6]
"""A temperature of the order in which nothing else counts."""


PARTLY = torch.tensor(list(itertools.product(range(MASK, CODES), repeat=PLACES)))
"""Every grid with MASK in it, and without: int64[729, 6]."""


class Exact:
    """The conditionals of a joint distribution float64[64], by adding up all grids that agree with what is known.

    A place that is known is judged by the others alone.
    """

    def __init__(self, joint):
        contrary = (PARTLY[:, None] != MASK) & (PARTLY[:, None] != GRIDS)  # [729, 64, 6]
        agrees = contrary.sum(-1, keepdim=True) == contrary  # but for the place itself
        is_code = torch.nn.functional.one_hot(GRIDS, CODES).double()  # [64, 6, K]
        self.logits = torch.einsum("npg,g,gpk->npk", agrees.mT.double(), joint, is_code).log()

    def __call__(self, tokens, progress):
        return self.logits[spelled(tokens - MASK, CODES + 1)].view(*tokens.shape, CODES)


def spelled(tokens, base):
    """The number that each grid int64[B, h, w] of digits spells: int64[B]."""
    return (tokens.flatten(1) * base ** torch.arange(PLACES - 1, -1, -1)).sum(1)


def product():
    """Independent places, each with a likelihood of its own."""
    chances = torch.tensor([0.25, 0.45, 0.5, 0.6, 0.8, 0.35], dtype=torch.float64)
    return torch.where(GRIDS == 1, chances, 1 - chances).prod(1)


def markov():
    """A chain in reading order that likes to stay as it is, from code 0 less than from code 1."""
    start = torch.tensor([0.4, 0.6], dtype=torch.float64)
    move = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=torch.float64)
    steps = [move[GRIDS[:, place], GRIDS[:, place + 1]] for place in range(PLACES - 1)]
    return start[GRIDS[:, 0]] * torch.stack(steps).prod(0)


def frequencies(sampler, joint, schedule, tokens=None, seed=0):
    """How often a sampler draws each grid, by the model of that joint distribution: float64[64]."""
    tokens = torch.full((PICTURES, HEIGHT, WIDTH), MASK) if tokens is None else tokens
    *_, last = sampler(Exact(joint), tokens, schedule, torch.Generator().manual_seed(seed))
    return torch.bincount(spelled(last, CODES), minlength=len(GRIDS)).double()


def tail(statistic, degrees):
    """The chance of a chi-square that large or larger."""
    return torch.special.gammaincc(torch.tensor(degrees / 2).double(), statistic / 2).item()


def p_value(counts, joint):
    """Of the hypothesis that counts float64[64] come from that distribution; a grid that can't be must not come."""
    assert not counts[joint == 0].any()
    counts, expected = counts[joint > 0], joint[joint > 0] * counts.sum()
    assert expected.min() > 5
    return tail(((counts - expected) ** 2 / expected).sum(), len(counts) - 1)


def two_sample_p_value(first, second):
    """Of the hypothesis that two rows of as many counts come from one distribution."""
    return tail(((first - second) ** 2 / (first + second)).sum(), len(first) - 1)


def test_the_model_is_exact():
    """Conditionals of the chain by forward and backward sums, written by hand for one grid."""
    tokens = torch.tensor([[[1, MASK, MASK], [0, MASK, MASK]]])
    got = Exact(markov())(tokens, 0.0).softmax(-1).view(PLACES, CODES)[:, 1]
    # from 1 over two places to 0: by 11, by 10, by 01, by 00
    paths = [0.8 * 0.8 * 0.2, 0.8 * 0.2 * 0.7, 0.2 * 0.3 * 0.2, 0.2 * 0.7 * 0.7]
    second, third = (paths[0] + paths[1]) / sum(paths), (paths[0] + paths[2]) / sum(paths)
    expected = [second, third, 0.3, 0.7 * 0.3 + 0.3 * 0.8]
    assert got[[1, 2, 4, 5]].tolist() == pytest.approx(expected, abs=1e-12)
    assert markov().sum().item() == pytest.approx(1) and product().sum().item() == pytest.approx(1)


BLIND = [
    Random(),
    Halton(),
    Halton(roll=True),
    ReMDM(eta=0.0),
    ReMDM(strategy="cap", eta=0.5),
    ReMDM(strategy="rescale", eta=0.8),
    ReMDM(strategy="loop", eta=0.6, loop_known=0.4),
    Confidence(temperature=NOISE),
    Gumbel(temperature=NOISE, sampling_temperature=1.0),
    PredictorCorrector(temperature=NOISE, eta=0.0),
    PredictorCorrector(temperature=NOISE, eta=1.0),
]


@pytest.mark.parametrize("steps", [1, 3, 9])
@pytest.mark.parametrize("sampler", BLIND, ids=repr)
def test_independent_places_come_as_they_should_in_any_number_of_steps(sampler, steps):
    sampler = type(sampler)(**{**vars(sampler), "steps": steps})
    assert p_value(frequencies(sampler, product(), Cosine()), product()) > 0.01


SINGLY = [
    Random(PLACES),
    Halton(PLACES),
    Halton(PLACES, roll=True),
    ReMDM(PLACES, eta=0.0),
    # one place is left open for the six steps of the loop: each takes one token back and draws another, or none
    ReMDM(2 * PLACES, strategy="loop", eta=1.0, loop_share=0.5, loop_known=5 / 6),
    Confidence(PLACES, temperature=NOISE),
    Gumbel(PLACES, temperature=NOISE, sampling_temperature=1.0),
    PredictorCorrector(PLACES, temperature=NOISE, eta=0.0),
]


@pytest.mark.parametrize("sampler", SINGLY, ids=repr)
def test_a_markov_chain_comes_as_it_should_one_token_a_step(sampler):
    assert p_value(frequencies(sampler, markov(), Linear()), markov()) > 0.01


@pytest.mark.parametrize("sampler", SINGLY, ids=repr)
def test_what_is_known_conditions_the_rest(sampler):
    """Two tokens are known, and four are drawn one by one: the distribution is the chain's, given the two."""
    tokens = torch.full((PICTURES, PLACES), MASK)
    tokens[:, 1], tokens[:, 4] = 1, 0
    given = torch.where((GRIDS[:, 1] == 1) & (GRIDS[:, 4] == 0), markov(), 0)
    sampler = type(sampler)(**{**vars(sampler), "steps": 2 * sampler.steps})
    counts = frequencies(sampler, markov(), Linear(), tokens.view(-1, HEIGHT, WIDTH))
    assert p_value(counts, given / given.sum()) > 0.01


@pytest.mark.parametrize(
    "sampler",
    [
        Confidence(PLACES),
        Confidence(PLACES, temperature=0.0),
        Gumbel(PLACES),
        Gumbel(PLACES, temperature=0.0, sampling_temperature=1.0),
        PredictorCorrector(PLACES),
        ReMDM(3 * PLACES, strategy="conf", eta=1.0),
    ],
    ids=repr,
)
def test_an_order_that_depends_on_what_is_drawn_is_biased_and_it_shows(sampler):
    assert p_value(frequencies(sampler, product(), Linear()), product()) < 1e-6


@pytest.mark.parametrize("sampler", [Random(2), Halton(2), ReMDM(2, eta=0.0)], ids=repr)
def test_several_tokens_a_step_lose_what_binds_them_and_it_shows(sampler):
    assert p_value(frequencies(sampler, markov(), Linear()), markov()) < 1e-6


def test_remdm_without_eta_is_random_where_both_are_biased():
    counts = [
        frequencies(sampler, markov(), Cosine(), seed=seed)
        for seed, sampler in enumerate([Random(3), ReMDM(3, eta=0.0)])
    ]
    assert two_sample_p_value(*counts) > 0.01
    other = frequencies(ReMDM(3, strategy="rescale", eta=1.0), markov(), Cosine())
    assert two_sample_p_value(counts[0], other) < 1e-6


def test_more_steps_of_a_loop_mend_what_came_too_fast():
    """Two places a step are drawn as if they were independent; a loop of single tokens draws them nearer the truth."""

    def distance(sampler):
        return (frequencies(sampler, markov(), Linear()) / PICTURES - markov()).abs().sum() / 2

    mended = ReMDM(30, strategy="loop", eta=0.2, loop_share=0.9, loop_known=0.6)
    assert distance(mended) < 0.7 * distance(Random(3))
