"""Remasking by chance: how many, which, when, by the paper's formulas."""

from itertools import pairwise

import pytest
import torch
from muse_sampling.remdm import ReMDM
from muse_sampling.schedules import Cosine, Linear

from muse_studio.contracts import MASK

CODES = 4


def run(sampler, pictures=1, size=10, schedule=None, logits=None):
    """All grids int64[pictures, size, size], from the masked one on, by a model that says the same always."""
    logits = torch.zeros(CODES) if logits is None else logits
    tokens = torch.full((pictures, size, size), MASK)
    generator = torch.Generator().manual_seed(0)
    steps = sampler(lambda grid, _: logits.expand(*grid.shape, CODES), tokens, schedule or Linear(), generator)
    return [tokens, *steps]


def went(before, after):
    """How many tokens were taken back, of how many there were, over all pictures."""
    drawn = before != MASK
    return int((drawn & (after == MASK)).sum()), int(drawn.sum())


def shares(grids):
    """The share of tokens that each step takes back; 0 where there are none."""
    pairs = [went(*pair) for pair in pairwise(grids)]
    return [gone / drawn if drawn else 0.0 for gone, drawn in pairs]


@pytest.mark.parametrize(
    ("sampler", "sigmas"),
    [
        # alpha = 0, 1/4, 1/2, 3/4, 1: sigma_max = (1 - alpha_s) / alpha_t = 1 (of none), 1 (of 2), 1/2, 0
        (ReMDM(4, strategy="cap", eta=0.3), [0, 0.3, 0.3, 0]),
        (ReMDM(4, strategy="cap", eta=0.0), [0, 0, 0, 0]),
        (ReMDM(4, strategy="rescale", eta=0.4), [0, 0.4, 0.2, 0]),
        # the schedule of two steps stops at 1/2 for four, at sigma_max = 1
        (ReMDM(6, strategy="loop", eta=0.3, loop_share=2 / 3, loop_known=0.5), [0, 0.3, 0.3, 0.3, 0.3, 0]),
    ],
    ids=repr,
)
def test_a_token_goes_with_the_chance_sigma(sampler, sigmas):
    assert shares(run(sampler, pictures=60)) == pytest.approx(sigmas, abs=0.02)


@pytest.mark.parametrize("strategy", ["cap", "rescale", "conf", "loop"])
def test_no_more_go_than_are_to_be_masked_after_the_step(strategy):
    """At eta 1 chance would often take more: each step still leaves what is scheduled, and the bound is reached."""
    grids = run(ReMDM(5, strategy=strategy, eta=1.0, loop_share=0.4, loop_known=0.5), pictures=200, size=2)
    scheduled = [4, 3, 2, 1, 1, 0] if strategy != "loop" else [4, 2, 1, 1, 1, 0]
    reached = 0
    for before, after, wanted in zip(grids, grids[1:], scheduled[1:], strict=False):
        assert ((after == MASK).flatten(1).sum(1) == wanted).all()
        gone = ((before != MASK) & (after == MASK)).flatten(1).sum(1)
        reached += int((gone == wanted).sum()) if wanted else 0
    assert reached > 20


def test_a_token_that_goes_is_not_drawn_again_in_the_same_step_but_may_be_another_later():
    grids = run(ReMDM(6, strategy="rescale", eta=1.0), pictures=20)
    pairs = list(pairwise(grids))
    assert all(((after == before) | (after == MASK))[before != MASK].all() for before, after in pairs)
    drawn = torch.stack(grids[1:])
    changed = (drawn != MASK) & (drawn != grids[-1])
    assert 0.2 < changed.any(0).double().mean() < 0.8


def test_a_loop_stops_the_schedule_where_the_code_does():
    """t_on = 0.55, t_off = 0.05, alpha_on = 0.9 over 20 steps: nine steps up, ten in the loop, one to the end."""
    grids = run(ReMDM(20, strategy="loop", eta=0.02, loop_share=0.5, loop_known=0.9))
    assert [int((grid == MASK).sum()) for grid in grids] == [*range(100, 10, -10), *[10] * 11, 0]
    moved = [gone > 0 for gone in shares(grids)]
    assert not any(moved[:9]) and any(moved[9:19]) and not moved[19]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_loop_of_few_steps_still_begins_and_ends(steps):
    for schedule in (Linear(), Cosine()):
        grids = run(ReMDM(steps, strategy="loop", eta=1.0), schedule=schedule)
        assert len(grids) == steps + 1 and (grids[-1] != MASK).all()
        assert (grids[1] == MASK).sum() < 100


@pytest.mark.slow
def test_conf_takes_the_doubtful_rather_than_the_sure():
    """Codes of the probabilities 0.9 and 0.1: sigma is as e^-0.9 to e^-0.1, and all of them together sigma_max."""
    logits = torch.tensor([0.9, 0.1, 0.0, 0.0]).log()
    _, first, second, *_ = run(ReMDM(3, strategy="conf", eta=1.0), pictures=20_000, size=3, logits=logits)
    gone = (first != MASK) & (second == MASK)
    weights = torch.tensor([0.9, 0.1]).neg().exp()
    drawn = torch.stack([(first == code).flatten(1).sum(1) for code in (0, 1)], 1)  # how many of each, [B, 2]
    sigma = weights / (drawn * weights).sum(1, keepdim=True)  # sigma_max is 1: 3 drawn, 3 masked after the step
    for code in (0, 1):
        expected = float((sigma[:, code] * drawn[:, code]).sum() / drawn[:, code].sum())
        assert float(gone[first == code].double().mean()) == pytest.approx(expected, rel=0.03)
    assert float(gone.double().sum((1, 2)).mean()) == pytest.approx(1, rel=0.03)
