"""A model of two stages small enough to draw in a millisecond, and an observer that remembers."""

import pytest
import torch

from muse_studio.contracts import TextEmbedding
from muse_studio.testing import FakeSampler, FakeTextEncoder, RecordingObserver, tiny_stage


class NumberEncoder:
    """The state is the number that the caption spells."""

    width = 8

    def __call__(self, prompts):
        states = torch.tensor([float(prompt) for prompt in prompts])[:, None, None].repeat(1, 1, 8)
        return TextEmbedding(states, torch.ones(len(prompts), 1, dtype=torch.bool))


class Knows(torch.nn.Module):
    """Knows the tokens int64[N, h, w] of numbered pictures by heart; `takes` says which number it takes one for."""

    codebook_size, text_width = 64, 8

    def __init__(self, tokens, takes):
        super().__init__()
        self.tokens, self.takes = tokens, takes

    def condition(self, text, low=None):
        return (self.takes(text.states[:, 0, 0].long()),)

    def forward(self, tokens, conditioning):
        return 50.0 * torch.nn.functional.one_hot(self.tokens[conditioning[0]], 64)


@pytest.fixture
def numbers():
    """A text encoder that reads numbers."""
    return NumberEncoder()


@pytest.fixture
def knows():
    """Makes a transformer: `knows(tokens, takes)`."""
    return lambda tokens, takes=lambda number: number: Knows(tokens, takes)


@pytest.fixture
def make_stage():
    """Makes a stage of fakes that fills its grid in four steps."""
    return lambda size=16, seed=0, **parts: tiny_stage(size, seed, **{"sampler": FakeSampler(steps=4)} | parts)


@pytest.fixture
def stages(make_stage):
    return {"base": make_stage(16, seed=1), "large": make_stage([32, 24], seed=2, sampler=FakeSampler(steps=2))}


@pytest.fixture
def encoder():
    return FakeTextEncoder()


@pytest.fixture
def notes():
    return RecordingObserver()
