"""The schedules' ends, slopes and formulas, and the counts that follow from them."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_sampling.later_schedules import Arccos, Polynomial, Sigmoid, Steps
from muse_sampling.schedules import Cosine, Cubic, Exp, Linear, Log, Sqrt, Square

from muse_studio.sampling.settings import masked_counts

SCHEDULES = [Cosine(), Linear(), Square(), Cubic(), Sqrt(), Log(), Log(4096), Exp(), Exp(4096), Log(2), Exp(2)]
LATER = [
    *(Arccos(), Sigmoid(), Sigmoid(0.0, 3.0), Sigmoid(-3.0, 0.0, 0.5), Sigmoid(-9.0, 9.0, 0.01)),
    *(Polynomial(0.01), Polynomial(1.7), Polynomial(40.0)),
    *(Steps([0.0]), Steps([1.0, 1.0, 0.0]), Steps([0.9, 0.5, 0.5, 0.1, 0.0])),
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
every_later_one_too = pytest.mark.parametrize("schedule", SCHEDULES + LATER, ids=repr)


@every_later_one_too
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_ends_are_exact(schedule, dtype):
    got = schedule(torch.tensor([0.0, 1.0], dtype=dtype))
    assert got.tolist() == [1.0, 0.0] and got.dtype == dtype


@every_later_one_too
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50))
@settings(max_examples=100, deadline=None)
def test_it_never_rises_and_stays_in_range(schedule, progress):
    for dtype, rounding in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        got = schedule(torch.tensor(sorted(progress), dtype=dtype))
        assert ((got >= 0) & (got <= 1)).all()
        assert (got.diff() <= rounding).all()


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        (Cosine(), 1 / 3, math.sqrt(3) / 2),
        (Cosine(), 0.5, math.sqrt(0.5)),
        (Linear(), 0.25, 0.75),
        (Square(), 0.5, 0.75),
        (Cubic(), 0.5, 0.875),
        (Sqrt(), 0.25, 0.5),
        (Log(256), 1 / 16, 0.5),
        (Log(256), 1 / 256, 1.0),
        (Log(256), 1 / 1024, 1.0),
        (Log(4096), 1 / 64, 0.5),
        (Exp(256), 0.5, 1 - 1 / 16),
        (Exp(256), 0.875, 0.5),
        (Exp(4096), 0.75, 1 - 1 / 8),
    ],
)
def test_values_by_hand(schedule, progress, expected):
    assert schedule(torch.tensor(progress, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-12)


def test_cosine_of_uniform_numbers_is_muses_mask_density():
    ratios = Cosine()((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)
    assert ratios.mean().item() == pytest.approx(2 / math.pi, abs=1e-6)
    assert (ratios > 0.5).double().mean().item() == pytest.approx(2 / 3, abs=1e-4)
    assert (ratios > 0.9).double().mean().item() == pytest.approx(0.287, abs=1e-3)


@pytest.mark.parametrize("schedule", [Log, Exp])
def test_a_grid_of_one_token_is_refused(schedule):
    with pytest.raises(ValueError, match="tokens is 1; give the number of tokens of a grid, 2 or more"):
        schedule(tokens=1)


PAPER = {
    (256, 24): [1, 2, 2, 4, 5, 6, 7, 8, 9, 9, 11, 11, 13, 13, 13, 14, 15, 16, 15, 16, 17, 16, 17, 16],
    (4096, 8): [79, 233, 379, 509, 621, 708, 768, 799],
}


@pytest.mark.parametrize(("tokens", "steps"), PAPER)
def test_tokens_fixed_per_step_as_in_muse(tokens, steps):
    masked = [tokens, *masked_counts(Cosine(), steps, tokens)[:, tokens].tolist()]
    assert [before - after for before, after in pairwise(masked)] == PAPER[tokens, steps]


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_each_step_fixes_one_at_least_and_the_last_fixes_all(schedule, steps):
    counts = masked_counts(schedule, steps, 30, early=False)
    assert counts.shape == (steps, 31)
    assert not counts[-1].any() and not counts[:, 0].any()
    masked = torch.arange(31)
    for after in counts[:-1]:
        fixed = masked - after
        assert (fixed[masked > 1] >= 1).all() and (after[masked > 0] >= 1).all()
        masked = after


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_where_a_part_is_masked_no_step_is_spent_when_nothing_is(schedule, steps):
    counts = masked_counts(schedule, steps, 30)
    to_the_end = masked_counts(schedule, steps, 30, early=False)
    assert torch.equal(counts[:, 30], to_the_end[:, 30])  # a whole picture as in MaskGIT
    assert torch.equal(counts, torch.where(to_the_end > 1, to_the_end, counts))
    forwards = 1 + (counts[:, 1:30] > 0).sum(0)
    assert (forwards <= torch.arange(1, 30)).all()  # 1, 2, 3 masked tokens: at most so many forwards


def test_rounding_costs_no_token():
    assert masked_counts(Linear(), 10, 10)[:, 10].tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(("name", "schedule"), [("cosine", Cosine()), ("linear", Linear())])
@pytest.mark.parametrize(("tokens", "steps"), [(64, 8), (256, 10), (256, 16), (1024, 32), (64, 58)])
def test_as_many_as_diffusers_masks(name, schedule, tokens, steps):
    from diffusers import AmusedScheduler

    reference = AmusedScheduler(mask_token_id=9, masking_schedule=name)
    reference.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    sample = torch.full((1, tokens), 9)
    masked = []
    for timestep in reference.timesteps:
        logits = torch.randn(1, tokens, 8, generator=generator)
        sample = reference.step(logits, timestep, sample, generator=generator).prev_sample
        masked.append(int((sample == 9).sum()))
    assert masked_counts(schedule, steps, tokens)[:, tokens].tolist() == masked


def test_a_half_is_a_half():
    """256 cos(pi / 3) is 128, as Muse's 24 steps have it; in float32, as in AmusedScheduler, it becomes 127."""
    assert masked_counts(Cosine(), 12, 256)[7, 256] == 128
    assert masked_counts(Cosine(), 24, 256)[15, 256] == 128
