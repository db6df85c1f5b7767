"""The dialect of MUSE-Pytorch and TiTok, held against a plain loop, and its draw against real Gumbel noise."""

import itertools
import math

import numpy as np
import pytest
import torch
from muse_sampling.gumbel import Gumbel
from muse_sampling.schedules import Cosine

from muse_studio.contracts import MASK


def model(tokens, progress):
    """Logits float32[B, h, w, 5] that depend on the place, on the neighbour and on progress."""
    table = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)) * 2
    places = torch.randn(tokens[0].numel(), 5, generator=torch.Generator().manual_seed(2))
    return (table[tokens.flatten(1) + 1].roll(1, 1) + places * (1 + progress)).view(*tokens.shape, 5)


def plain_decode(tokens, steps, temperature, generator):
    """The loop of `libs/muse.py`, one place at a time, its Gumbel draw of a code replaced by the inverse of its law."""
    grids = tokens.numpy().copy()
    at_first = (grids == MASK).sum((1, 2))
    for step in range(1, steps + 1):
        ratio = step / steps
        falling = temperature * (1 - ratio)
        logits = model(torch.from_numpy(grids), ratio).double().numpy()
        uniform = torch.rand(2, *tokens.shape, generator=generator).double().numpy()
        for b, grid in enumerate(grids):
            guesses = []
            for y, x in zip(*np.nonzero(grid == MASK), strict=True):
                scores = logits[b, y, x]
                if falling == 0:
                    code = int(scores.argmax())
                else:
                    weights = np.exp((scores - scores.max()) / falling)
                    sums = itertools.accumulate(weights / weights.sum())
                    code = next(k for k, reached in enumerate(sums) if reached > uniform[0, b, y, x])
                noise = -math.log(-math.log(max(uniform[1, b, y, x], 1e-20)))
                guesses.append((scores[code] + falling * noise, y, x, code))
            stay = max(
                at_first[b] == grid.size,
                min(len(guesses) - 1, math.floor(at_first[b] * math.cos(math.pi / 2 * ratio) + 1e-6)),
            )
            guesses.sort(key=lambda guess: -guess[0])
            for _, y, x, code in guesses[: len(guesses) - (0 if step == steps else stay)]:
                grid[y, x] = code
        yield torch.from_numpy(grids.copy())


@pytest.mark.parametrize("seed", range(25))
def test_equals_a_plain_loop(seed):
    pick = np.random.default_rng(seed)
    shape = tuple(int(n) for n in pick.integers(1, 5, 3))
    steps, temperature = int(pick.integers(1, 9)), float(pick.choice([0.0, 1.0, 4.5]))
    tokens = torch.from_numpy(pick.integers(0, 5, shape))
    tokens[torch.from_numpy(pick.random(shape) < 0.8)] = MASK
    got = Gumbel(steps, temperature)(model, tokens, Cosine(), torch.Generator().manual_seed(seed))
    expected = plain_decode(tokens, steps, temperature, torch.Generator().manual_seed(seed))
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_codes_come_as_the_largest_of_logits_with_gumbel_noise():
    """t = 2 in a single step; 20,000 draws of ours, and as many by numpy's own Gumbel noise."""
    logits, draws = np.array([1.0, -2.0, 0.5, 3.0, 0.0]), 20_000
    tokens = torch.full((1, 1, draws), MASK)
    same = torch.from_numpy(logits).float().expand(1, 1, draws, 5)
    (grid,) = Gumbel(1, temperature=[0.0, 2.0])(lambda *_: same, tokens, Cosine(), torch.Generator().manual_seed(0))
    ours = torch.bincount(grid.flatten(), minlength=5).numpy()
    noise = np.random.default_rng(0).gumbel(size=(draws, 5))
    theirs = np.bincount((logits + 2.0 * noise).argmax(1), minlength=5)
    statistic = ((ours - theirs) ** 2 / (ours + theirs)).sum()
    assert torch.special.gammaincc(torch.tensor(2.0), torch.tensor(statistic / 2)).item() > 0.01  # 4 degrees of freedom
