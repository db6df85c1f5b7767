"""pytest fixtures: one line in a test module or a conftest.py has them all.

    from muse_studio.testing.fixtures import *  # noqa: F403

This is the one module of muse_studio.testing that imports pytest.
"""

from __future__ import annotations

import pytest

from muse_studio.contracts import TextEncoder
from muse_studio.sampling.stage import Stage
from muse_studio.testing.fakes import FakeDataset, FakePredict
from muse_studio.testing.filling import random_logits
from muse_studio.testing.recording import RecordingObserver
from muse_studio.testing.tiny import TinyModel

__all__ = ["observer", "tiny_dataset", "tiny_model", "tiny_predict", "tiny_stages", "tiny_text_encoder"]


@pytest.fixture
def tiny_model() -> TinyModel:
    """A model of fakes that draws in milliseconds: `tiny_model.with_parts(sampler=MySampler()).draw("a cat")`."""
    return TinyModel()


@pytest.fixture
def tiny_stages(tiny_model: TinyModel) -> dict[str, Stage]:
    """Its stages, as tasks take them."""
    return tiny_model.stages


@pytest.fixture
def tiny_text_encoder(tiny_model: TinyModel) -> TextEncoder:
    """Its text encoder, as tasks take it."""
    return tiny_model.text_encoder


@pytest.fixture
def tiny_dataset() -> FakeDataset:
    """Three grey pictures with captions."""
    return FakeDataset()


@pytest.fixture
def tiny_predict() -> FakePredict:
    """What a sampler asks, for a grid int64[2, 6, 8] of 16 codes: the same random logits always."""
    return FakePredict(random_logits(2))


@pytest.fixture
def observer() -> RecordingObserver:
    """An observer that remembers what it is told."""
    return RecordingObserver()
