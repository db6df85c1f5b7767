"""Who takes hold of a GPU is named; torch's own accounts are stood in for, so that no GPU is needed."""

from __future__ import annotations

import pytest
import torch
from warned import heard

from muse_studio import testing
from muse_studio.recipe import running
from muse_studio.runtime import memory


@pytest.fixture
def cuda(monkeypatch):
    """A GPU that is begun to be used, and whose memory is taken, by calling this with bytes."""
    account = {"begun": False, "bytes": 0}

    def take(more):
        account.update(begun=True, bytes=account["bytes"] + more)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: account["begun"])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: account["bytes"])
    monkeypatch.setattr(torch.cuda, "take", take, raising=False)
    return take


def test_what_is_taken_is_told_in_words(cuda):
    before = memory.held()
    assert (before, memory.taken(before)) == ({}, "")
    cuda(0)
    assert memory.taken(before) == "begins to use cuda"
    cuda(3 << 19)
    assert memory.taken(before) == "begins to use cuda and keeps 1.5 MiB there"
    since = memory.held()
    assert (since, memory.taken(since)) == ({"cuda": 3 << 19}, "")
    cuda(1 << 20)
    assert memory.taken(since) == "keeps 1.0 MiB of cuda memory"
    cuda(-2 << 20)
    assert memory.taken(since) == ""


def test_a_constructor_that_takes_memory_is_named_when_a_recipe_is_built(cuda, toy, write):
    takes = "        import torch\n        torch.cuda.take(2 << 20)\n"
    source = toy.read_text(encoding="utf-8").replace("        if weights:\n", f"{takes}        if weights:\n")
    recipe = {"use": "draw", "stages": {}, "tokenizer": "pixels"}
    with heard() as told:
        running.run(recipe, plugins=[write("hungry.py", source)])
    assert told == [
        "tokenizer 'pixels' of plugin hungry begins to use cuda and keeps 2.0 MiB there when it is made; it should do "
        "so when it is called"
    ]


def test_a_contract_finds_memory_taken_of_a_gpu_that_is_in_use(cuda):
    cuda(0)

    class Hungry(testing.FakeSchedule):
        """Takes 1 MiB."""

        def __init__(self):
            cuda(1 << 20)

    class Examined(testing.MaskScheduleContract):
        def make(self):
            return Hungry()

    with pytest.raises(testing.BrokenPromise, match=r"it keeps 2\.0 MiB of cuda memory; do that when called"):
        Examined().test_its_constructor_is_cheap()
