"""A model of two stages small enough to draw in a millisecond, and an observer that remembers."""

import pytest
import torch

from muse_studio.contracts import MASK
from muse_studio.stage import Stage
from muse_studio.testing import FakeTextEncoder, FakeTokenizer, FakeTransformer, RecordingObserver


class Linear:
    def __call__(self, progress):
        return 1 - progress


class Shuffled:
    """Fills the grid in a random order, each place by a draw from the logits."""

    def __init__(self, steps=4):
        self.steps = steps

    def __call__(self, predict, tokens, schedule, generator):
        flat = tokens.flatten(1)
        order = torch.rand(flat.shape, generator=generator).argsort(1).argsort(1)
        for step in range(self.steps):
            probabilities = predict(flat.view_as(tokens), step / self.steps).flatten(1, 2).softmax(-1)
            drawn = torch.multinomial(probabilities.flatten(0, 1), 1, generator=generator).view_as(flat)
            now = order < flat.shape[1] * (step + 1) / self.steps
            flat = torch.where(now & (flat == MASK), drawn, flat)
            yield flat.view_as(tokens)


class Away:
    """Guidance that doubles the step from the negative prompt to the prompt."""

    def __call__(self, ask, text, negative, progress):
        wanted, unwanted = ask(text, negative)
        return 2 * wanted - unwanted


@pytest.fixture
def make_stage():
    def make(size=16, seed=0, **parts):
        torch.manual_seed(seed)
        parts = {"transformer": FakeTransformer(), "tokenizer": FakeTokenizer(), "sampler": Shuffled()} | parts
        return Stage(**parts, schedule=Linear(), guidance=Away(), size=size)

    return make


@pytest.fixture
def stages(make_stage):
    return {"base": make_stage(16, seed=1), "large": make_stage([32, 24], seed=2, sampler=Shuffled(2))}


@pytest.fixture
def encoder():
    return FakeTextEncoder()


@pytest.fixture
def notes():
    return RecordingObserver()
