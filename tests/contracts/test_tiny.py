"""The tiny model draws, the observer remembers, and an author has both by one import."""

from __future__ import annotations

import inspect
import time

import pytest
import torch

from muse_studio import testing
from muse_studio.contracts import NO_RUN
from muse_studio.registry.kinds import hook_points, kinds
from muse_studio.registry.plugins import Registry
from muse_studio.testing import fixtures
from muse_studio.testing.fixtures import *  # noqa: F403


def test_the_tiny_model_draws_what_the_seed_says(tiny_model):
    pictures = tiny_model.draw("a red apple", "a cat", seed=3)
    assert (pictures.shape, pictures.dtype) == ((2, 3, 32, 32), torch.float32)
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert torch.equal(testing.TinyModel().draw("a red apple", "a cat", seed=3), pictures)
    assert not torch.equal(tiny_model.draw("a red apple", "a cat", seed=4), pictures)
    assert not torch.equal(tiny_model.draw("a blue car", "a cat", seed=3)[0], pictures[0])


def test_it_draws_in_milliseconds(tiny_model):
    tiny_model.draw("a cat")
    took = []
    for _ in range(5):
        began = time.process_time()
        tiny_model.draw("a cat")
        took.append(time.process_time() - began)
    assert min(took) < 0.1  # seconds of the processor; 5 ms where nothing else runs


def test_a_part_of_ones_own_takes_its_place(tiny_model, observer):
    class Zeros:
        steps = 2

        def __call__(self, predict, tokens, schedule, generator):
            yield torch.where(tokens == -1, 1, tokens)
            yield torch.zeros_like(tokens)

    black = tiny_model.with_parts("superres", sampler=Zeros()).draw("a cat", observer=observer)
    assert not black.any()
    assert tiny_model.draw("a cat").any()
    assert [step["stage"] for step in observer.steps] == ["base"] * 6 + ["superres"] * 2
    assert [step["step"] for step in observer.steps][-2:] == [1, 2]
    assert observer.steps[-1]["tokens"].shape == (1, 8, 8)


def test_the_observer_notes_every_call_with_its_arguments(observer):
    observer.muse_started(task="a task", context=NO_RUN)
    told = {"tokens": None, "loss": 0.5, "image": None, "numbers": None}
    observer.muse_step(stage="net", step=1, steps=2, **told)
    observer.muse_finished(task="a task", result=7, context=NO_RUN)
    assert observer.calls == [
        ("muse_started", {"task": "a task", "context": NO_RUN}),
        (
            "muse_step",
            {"stage": "net", "step": 1, "steps": 2, "tokens": None, "loss": 0.5, "image": None, "numbers": None},
        ),
        ("muse_finished", {"task": "a task", "result": 7, "context": NO_RUN}),
    ]
    assert observer.steps == [observer.calls[1].arguments]


def test_the_observer_dies_where_it_is_told_to():
    observer = testing.RecordingObserver(dies_at=2)
    step = {"stage": "net", "steps": 2, "tokens": None, "loss": None, "image": None, "numbers": None}
    observer.muse_step(step=1, **step)
    with pytest.raises(RuntimeError, match="the power is gone"):
        observer.muse_step(step=2, **step)
    assert [told["step"] for told in observer.steps] == [1, 2]


def test_the_observer_hears_every_observing_hook(observer):
    registry = Registry(entries=())
    registry.observe([("recording", observer)])
    hooks = [name for name in hook_points() if name not in {kind.hook for kind in kinds().values()}]
    for name in hooks:
        arguments = dict.fromkeys(inspect.signature(hook_points()[name]).parameters, 1)
        getattr(registry.hook, name)(**arguments)
        assert observer.calls[-1] == (name, arguments)
    assert len(observer.calls) == len(hooks) == 7


def test_every_fixture_can_be_had(tiny_stages, tiny_text_encoder, tiny_dataset, tiny_predict):
    assert list(tiny_stages) == ["base", "superres"]
    assert tiny_text_encoder(["a cat"]).mask.sum() == 2
    assert len(tiny_dataset) == 3
    assert tiny_predict(torch.zeros(2, 6, 8), 0.0).shape == (2, 6, 8, 16)
    assert len(fixtures.__all__) == 6
