"""Path planning: the plain loop of the paper's code, a token that is taken back, and the bounds of that."""

import math

import numpy as np
import pytest
import torch
from muse_sampling.predictor_corrector import PredictorCorrector
from muse_sampling.schedules import Cosine, Linear

from muse_studio.contracts import MASK

PLACES = torch.randn(30, 5, generator=torch.Generator().manual_seed(2)) * 2
CODES = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)) * 2


def model(tokens, progress):
    """Logits float32[B, h, w, 5] that depend on the place, on the neighbours and on progress."""
    near = CODES[tokens.flatten(1) + 1]
    mixed = near.roll(1, 1) + near.roll(-1, 1) + PLACES[: tokens[0].numel()] * (1 + progress)
    return mixed.view(*tokens.shape, 5)


def plain_decode(tokens, steps, eta):
    """`p2_sampling` with its own planner and greedy codes, one picture at a time, counting tokens as we do."""
    grids = tokens.numpy().copy()
    fixed, at_first = grids != MASK, (grids == MASK).sum((1, 2))
    for step in range(1, steps + 1):
        log_p = model(torch.from_numpy(grids), step / steps).double().log_softmax(-1).numpy()
        for b, grid in enumerate(grids):
            masked = (grid == MASK).copy()
            filled = np.where(masked, log_p[b].argmax(-1), grid)
            score = np.take_along_axis(log_p[b], filled[..., None], -1)[..., 0]
            score = np.where(masked, score, eta * score if eta else math.inf)
            score[fixed[b]] = math.inf
            scheduled = math.floor(at_first[b] * math.cos(math.pi / 2 * step / steps) + 1e-6)
            stay = max(int(at_first[b] == grid.size), min(int(masked.sum()) - 1, scheduled), 0)
            stay = 0 if step == steps else stay
            lowest = np.argsort(score.flatten(), kind="stable")[:stay]
            grid[:] = filled
            grid.reshape(-1)[lowest] = MASK
        yield torch.from_numpy(grids.copy())


@pytest.mark.parametrize("seed", range(40))
def test_equals_a_plain_loop_where_nothing_is_drawn(seed):
    pick = np.random.default_rng(seed)
    shape = tuple(int(n) for n in pick.integers(1, 6, 3))
    steps, eta = int(pick.integers(1, 12)), float(pick.choice([0.0, 0.5, 1.0, 2.0]))
    tokens = torch.from_numpy(pick.integers(0, 5, shape))
    tokens[torch.from_numpy(pick.random(shape) < 0.8)] = MASK
    sampler = PredictorCorrector(steps, temperature=0.0, sampling_temperature=0.0, eta=eta)
    got = sampler(model, tokens, Cosine(), torch.Generator())
    for ours, theirs in zip(got, plain_decode(tokens, steps, eta), strict=True):
        assert torch.equal(ours, theirs)


def turning(tokens, progress):
    """Two places: the first begins as the surer, and once it is there the second says that it is wrong."""
    sure, likely, wrong = [3.0, 0.0], [1.0, 0.0], [-4.0, 0.0]
    first = wrong if tokens[0, 0, 0] == 0 or tokens[0, 0, 1] == 0 else sure
    return torch.tensor([[[first, likely, likely]]])


@pytest.mark.parametrize(
    ("eta", "expected"),
    [
        # the first comes, and stays
        (0.0, [[0, -1, -1], [0, 0, -1], [0, 0, 0]]),
        # the first comes; then its log-probability is -4.02, that of the others -0.31: it goes and both of them come;
        # then code 1 is the likelier for it
        (1.0, [[0, -1, -1], [-1, 0, 0], [1, 0, 0]]),
        # -4.02 / 20 = -0.20 is more than -0.31
        (0.05, [[0, -1, -1], [0, 0, -1], [0, 0, 0]]),
    ],
)
def test_a_token_that_is_doubted_goes_and_another_comes_in_its_stead(eta, expected):
    sampler = PredictorCorrector(3, sampling_temperature=0.0, eta=eta)
    got = sampler(turning, torch.full((1, 1, 3), MASK), Linear(), torch.Generator())
    assert [grid.flatten().tolist() for grid in got] == expected


def test_a_token_known_at_first_is_never_doubted():
    tokens = torch.tensor([[[0, MASK, MASK]]])
    sampler = PredictorCorrector(2, sampling_temperature=0.0, eta=9.0)
    got = sampler(turning, tokens, Linear(), torch.Generator())
    assert [grid.flatten().tolist() for grid in got] == [[0, 0, -1], [0, 0, 0]]
