"""A model of two stages small enough to draw in a millisecond, in a folder of the test's own."""

import pytest
import torch

from muse_studio.stage import Stage
from muse_studio.testing.fakes import (
    FakeGuidance,
    FakeSampler,
    FakeSchedule,
    FakeTextEncoder,
    FakeTokenizer,
    FakeTransformer,
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MUSE_OBSERVERS", raising=False)
    return tmp_path


@pytest.fixture
def stages():
    def stage(size, seed, steps):
        torch.manual_seed(seed)
        return Stage(FakeTokenizer(), FakeTransformer(), FakeSchedule(), FakeSampler(steps=steps), FakeGuidance(), size)

    return {"base": stage(16, 1, 4), "large": stage([32, 24], 2, 3)}


@pytest.fixture
def encoder():
    return FakeTextEncoder()
