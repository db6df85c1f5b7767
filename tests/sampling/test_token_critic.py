"""Sampling with a critic: what is masked again is what it says, by hand and against a loop written another way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_sampling.schedules import Cosine, Linear
from muse_sampling.token_critic import TokenCritic

from muse_studio import testing
from muse_studio.contracts import MASK
from muse_studio.sampling.settings import masked_counts
from muse_studio.testing import FakePredict, FakeTransformer


class Script:
    """A critic that says what it is told to: float[B, h, w], one grid of scores a step; it notes what it saw."""

    outputs = 1

    def __init__(self, *scores):
        self.scores, self.conditioned, self.seen = list(scores), [], []

    def condition(self, text, low=None):
        self.conditioned.append((text, low))
        return (text.mask,)

    def __call__(self, tokens, conditioning):
        self.seen.append(tokens.clone())
        return self.scores[len(self.seen) - 1].unsqueeze(-1)


class Suspicious:
    """A critic whose score depends on every token of the grid and on the place."""

    outputs = 1

    def __init__(self, seed, places, codes):
        generator = torch.Generator().manual_seed(seed)
        self.place, self.code = torch.randn(places, generator=generator), torch.randn(codes, generator=generator)

    def condition(self, text, low=None):
        return (text.mask,)

    def __call__(self, tokens, conditioning):
        message = self.code[tokens.flatten(1)]
        return (message * 2 + message.mean(1, keepdim=True) + self.place).view(*tokens.shape, 1)


def ask(logits, **more):
    return FakePredict(logits, testing.embedding(len(logits)), **more)


def run(sampler, predict, tokens, schedule=None, seed=0):
    return list(sampler(predict, tokens, schedule or Linear(), torch.Generator().manual_seed(seed)))


def test_what_is_masked_again_by_hand():
    """Four steps over four places: 3, 2, 1, 0 of them stay open, those with the lowest scores, kept before or not."""
    likeliest = torch.tensor([[[5, 6], [7, 8]]])
    logits = torch.nn.functional.one_hot(likeliest, 9).float() * 10
    script = Script(
        torch.tensor([[[3.0, 1.0], [2.0, 0.0]]]),  # the first alone is kept
        torch.tensor([[[-1.0, 4.0], [2.0, 3.0]]]),  # the first and the third go
        torch.tensor([[[0.0, 0.1], [-5.0, 0.2]]]),
        torch.tensor([[[0.0, 0.0], [0.0, 0.0]]]),
    )
    got = run(TokenCritic(4, 0.0, 0.0, critic=script), ask(logits), torch.full((1, 2, 2), MASK))
    assert [grid.flatten().tolist() for grid in got] == [[5, -1, -1, -1], [-1, 6, -1, 8], [5, 6, -1, 8], [5, 6, 7, 8]]
    assert all(torch.equal(seen, likeliest) for seen in script.seen), "the critic looks at a filled grid"


def test_a_kept_token_is_revised():
    """The model changes its mind after the first step; only a token that the critic rejects follows."""
    first, then = (torch.nn.functional.one_hot(torch.tensor([[codes]]), 5).float() * 10 for codes in ([1, 1], [2, 2]))

    def predict(tokens, progress):
        return first if progress < 0.5 else then

    predict.text, predict.low = testing.embedding(1), None
    script = Script(*(torch.tensor([[scores]]) for scores in ([1.0, 0.0], [0.0, 1.0], [0.0, 0.0])))
    got = run(TokenCritic(3, 0.0, 0.0, critic=script), predict, torch.full((1, 1, 2), MASK))
    assert [grid.flatten().tolist() for grid in got] == [[1, -1], [-1, 2], [2, 2]]


def test_its_conditioning_is_made_once_of_what_the_stage_was_given():
    script, low = Script(*[torch.zeros(2, 3, 3)] * 5), torch.zeros(2, 1, 1, dtype=torch.int64)
    predict = ask(torch.zeros(2, 3, 3, 4), low=low)
    run(TokenCritic(5, critic=script), predict, torch.full((2, 3, 3), MASK))
    ((text, given_low),) = script.conditioned
    assert text is predict.text and given_low is low and len(script.seen) == 5


def plain_sampling(predict, critic, tokens, steps, temperature, generator):
    """The same by a linear schedule, place by place, with numpy; codes by their own chances."""
    grids, places = tokens.numpy().copy(), list(np.ndindex(*tokens.shape[1:]))
    wanted = [[place for place in places if grid[place] == MASK] for grid in grids]
    left = [len(each) for each in wanted]
    for step in range(1, steps + 1):
        logits = predict(torch.from_numpy(grids), step / steps).double().numpy()
        lots, noise = torch.rand(2, *tokens.shape, generator=generator).double().numpy()
        for b, grid in enumerate(grids):
            for place in places:
                if grid[place] == MASK:
                    chances = np.exp(logits[b][place])
                    grid[place] = np.searchsorted(np.cumsum(chances) / chances.sum(), lots[b][place], "right")
        scores = critic(torch.from_numpy(grids), ())[..., 0].double().numpy()
        for b, grid in enumerate(grids):
            scheduled = math.floor(len(wanted[b]) * (1 - step / steps) + 1e-6)
            open_ = len(wanted[b]) == len(places)  # one to the last step, in a whole picture alone
            left[b] = 0 if step == steps else max(open_, min(left[b] - 1, scheduled), 0)
            real = {
                place: -math.log1p(math.exp(-scores[b][place]))
                - temperature * (1 - step / steps) * math.log(-math.log(max(noise[b][place], 1e-20)))
                for place in wanted[b]
            }
            for place in sorted(wanted[b], key=real.get)[: left[b]]:
                grid[place] = MASK
        yield torch.from_numpy(grids.copy())


@pytest.mark.parametrize("seed", range(60))
def test_equals_a_brute_force_sampling(seed):
    pick = np.random.default_rng(seed)
    shape = tuple(int(n) for n in pick.integers(1, 6, 3))
    codes, steps, temperature = int(pick.integers(2, 12)), int(pick.integers(1, 14)), float(pick.choice([0.0, 2.0]))
    tokens = torch.from_numpy(pick.integers(0, codes, shape))
    # each picture has its own share of unknown tokens, none and all included
    tokens[torch.from_numpy(pick.random(shape) < pick.choice([0.0, 0.3, 0.7, 1.0], (shape[0], 1, 1)))] = MASK
    predict = ask(torch.randn(*shape, codes, generator=torch.Generator().manual_seed(seed)))
    critic = Suspicious(seed, shape[1] * shape[2], codes)
    got = run(TokenCritic(steps, temperature, critic=critic), predict, tokens, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    expected = list(plain_sampling(predict, critic, tokens, steps, temperature, generator))
    assert len(got) == len(expected) == steps
    assert all(map(torch.equal, got, expected))


grids = st.tuples(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 15))


@given(grids, st.sampled_from([0.0, 4.5]))
@settings(max_examples=100, deadline=None)
def test_known_tokens_stay_and_each_yield_has_the_scheduled_masks(grid, temperature):
    seed, pictures, height, width, steps = grid
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 7, (pictures, height, width), generator=generator)
    known = torch.rand(tokens.shape, generator=generator) < torch.rand(pictures, 1, 1, generator=generator)
    tokens = tokens.masked_fill(~known, MASK)
    before = tokens.clone()
    counts = masked_counts(Cosine(), steps, height * width)
    sampler = TokenCritic(steps, temperature, critic=Suspicious(seed, height * width, 7))
    predict = ask(torch.randn(*tokens.shape, 7, generator=generator))
    for step, now in enumerate(run(sampler, predict, tokens, Cosine(), seed)):
        assert torch.equal(now[known], before[known])
        assert now.min() >= MASK and now.max() < 7
        assert torch.equal((now == MASK).flatten(1).sum(1), counts[step, (~known).flatten(1).sum(1)])
    assert step == steps - 1 and now.min() >= 0
    assert torch.equal(tokens, before)


def test_nothing_waits_for_the_device():
    """A tensor on "meta" has no values: reading one on the host raises."""
    tokens, text = torch.full((2, 4, 4), MASK, device="meta"), testing.embedding(2)

    def predict(tokens, progress):
        return torch.empty(*tokens.shape, 9, device="meta")

    predict.text, predict.low = text, None
    got = run(TokenCritic(3, critic=Script(*[torch.empty(2, 4, 4, device="meta")] * 3)), predict, tokens)
    assert [(grid.shape, grid.dtype, grid.device.type) for grid in got] == [((2, 4, 4), torch.int64, "meta")] * 3


def test_settings_that_can_not_be():
    with pytest.raises(ValueError, match="critic is a transformer that predicts codes; give one that scores tokens"):
        TokenCritic(critic=FakeTransformer())
    with pytest.raises(ValueError, match="steps is 0; give 1 or more"):
        TokenCritic(0, critic=Script())
