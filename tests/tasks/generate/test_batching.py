"""Pictures drawn at once: the same as drawn alone, in batches that the memory holds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from muse_sampling.confidence import Confidence
from muse_tasks.generate.batching import bytes_a_picture, fitting, in_batches, together
from muse_tasks.generate.task import Generate

from muse_studio.contracts import TextEmbedding
from muse_studio.runtime import memory

CPU = torch.device("cpu")


@pytest.fixture
def rowwise(make_stage):
    return {
        "base": make_stage(16, seed=1, sampler=Confidence(4)),
        "large": make_stage([32, 24], seed=2, sampler=Confidence(2)),
    }


@pytest.mark.parametrize("batch", [2, 5, 100])
def test_a_batch_draws_what_is_drawn_alone(rowwise, encoder, notes, tmp_path, batch):
    request = {"prompt": ["a cat", "a red apple", ""], "count": 3, "seed": 5, "negative": "a dog"}
    alone = Generate(rowwise, encoder, **request, out=str(tmp_path / "alone"), previews=True)()
    many = Generate(rowwise, encoder, **request, out=str(tmp_path / "many"), previews=True, batch=batch)(notes)
    assert (many.prompts, many.seeds) == (alone.prompts, alone.seeds)
    assert len(many.seconds) == len(many.strips) == 9
    for one, other in zip(alone.images, many.images, strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(alone.strips, many.strips, strict=True):
        assert one.name == other.name and one.read_bytes() == other.read_bytes()
    assert max(len(step["tokens"]) for step in notes.steps) == min(batch, 9)


def test_a_sampler_with_one_noise_for_all_is_refused(stages, encoder):
    with pytest.raises(ValueError, match=r"batch is 2, and the sampler of stages\.base can't draw each .*; give 1"):
        Generate(stages, encoder, "a cat", batch=2)
    with pytest.raises(ValueError, match="batch is 0; draw at least 1"):
        Generate(stages, encoder, "a cat", batch=0)


def test_where_memory_does_not_suffice_pictures_are_drawn_in_halves(rowwise, encoder, tmp_path, monkeypatch):
    alone = Generate(rowwise, encoder, "a cat", count=7, out=str(tmp_path / "alone"))()
    table, sizes = rowwise["large"].transformer.forward, []

    def forward(tokens, conditioning):
        sizes.append(len(tokens))
        if len(tokens) > 6:  # two texts of three pictures
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return table(tokens, conditioning)

    monkeypatch.setattr(rowwise["large"].transformer, "forward", forward)
    many = Generate(rowwise, encoder, "a cat", count=7, batch=7, out=str(tmp_path / "many"))()
    assert [size for size, before in zip(sizes, [0, *sizes], strict=False) if size != before] == [14, 6, 2]
    for one, other in zip(alone.images, many.images, strict=True):
        assert np.array_equal(one, other)


@given(st.integers(0, 30), st.integers(1, 9), st.integers(1, 9))
def test_every_job_is_done_once_in_order(count, most, room):
    def draw(jobs):
        if len(jobs) > room:
            raise MemoryError
        return [job * 2 for job in jobs]

    done = list(in_batches(list(range(count)), most, draw))
    assert [job for jobs, _ in done for job in jobs] == list(range(count))
    assert [one for _, drawn in done for one in drawn] == [job * 2 for job in range(count)]
    assert all(len(jobs) <= min(most, room) for jobs, _ in done)


@pytest.mark.parametrize("error", [MemoryError("no"), ValueError("other"), RuntimeError("shapes differ")])
def test_other_errors_and_a_single_picture_s_are_raised(error):
    def draw(jobs):
        raise error

    with pytest.raises(type(error), match=str(error)):
        list(in_batches([1], 1, draw))
    if not isinstance(error, MemoryError):
        with pytest.raises(type(error), match=str(error)):
            list(in_batches([1, 2], 2, draw))


def test_as_many_as_a_cpu_s_memory_holds(rowwise, monkeypatch):
    each = bytes_a_picture(rowwise)
    assert each == max(32 * 8 * 6 * 64, 2048 * 32 * 24)
    for free, expected in ((10 * each, 8), (3.5 * each, 3), (0, 1), (None, 8)):
        monkeypatch.setattr(memory, "free", lambda free=free: None if free is None else int(free))
        assert fitting(8, rowwise, CPU) == expected
    monkeypatch.setattr(memory, "free", lambda: 0)
    assert fitting(8, rowwise, torch.device("cuda")) == 8


def test_texts_are_put_together_in_their_order():
    one = TextEmbedding(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), None)
    both = together([one, one.null()])
    assert both.states[:, 0, 0].tolist() == [1, 0] and both.mask[:, 0].tolist() == [True, False]
    assert both.pooled is None
    assert together([one._replace(pooled=torch.ones(1, 4))] * 3).pooled.shape == (3, 4)
