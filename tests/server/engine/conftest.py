"""A desk whose model is of fakes and draws in milliseconds, and what tests ask of it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from muse_server.desk import Desk
from muse_server.gallery import Gallery

from muse_studio.registry.plugins import Registry
from muse_studio.sampling.model import Model
from muse_studio.testing import FakeSampler, FakeTextEncoder, tiny_stage

PATIENCE = 120
"""Seconds that a test waits on a busy machine for what takes none on a quiet one."""


class Slow:
    """A sampler that waits at each step until it is let go on, and says at which it is."""

    steps = 4

    def __init__(self):
        self.inner = FakeSampler(steps=self.steps)
        self.gate, self.at = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, predict, tokens, schedule, generator):
        for grid in self.inner(predict, tokens, schedule, generator):
            self.at.release()
            assert self.gate.acquire(timeout=PATIENCE)
            yield grid

    def go(self, steps=1):
        for _ in range(steps):
            self.gate.release()

    async def reached(self):
        """Until the sampler is at its next step."""
        assert await asyncio.to_thread(self.at.acquire, timeout=PATIENCE)


def tiny(**parts):
    """A model of two stages, 16 and 32 pixels square, that no plugin and no observer of the environment hears of."""
    base = tiny_stage(16, seed=1, **{"sampler": FakeSampler(steps=4)} | parts)
    model = Model({"base": base, "large": tiny_stage(32, seed=2, sampler=FakeSampler(steps=2))}, FakeTextEncoder())
    model.hook = Registry(entries=()).hook
    return model


@pytest.fixture
def model():
    return tiny()


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def opened(tmp_path):
    """Opens a desk: `async with opened(model) as desk`."""

    @asynccontextmanager
    async def open_desk(model, **settings):
        desk = Desk(model, Gallery(tmp_path / "out"), tmp_path / "out", **settings)
        await desk.start()
        try:
            yield desk
        finally:
            await desk.close()

    return open_desk


@pytest.fixture
def finished():
    """Does a drawing action, and waits until its end is told: the event."""

    async def finish(desk, session, action):
        number = session.events.number
        job = await desk.act(session, action)
        return await ending(desk, session, job, number)

    return finish


async def ending(desk, session, job, after):
    """The event that tells that a job has ended."""
    heard = desk.events(session, after)
    try:
        async with asyncio.timeout(PATIENCE):
            async for event in heard:
                if event.name in ("done", "failed", "cancelled") and event.data["job"] == job.id:
                    return event
    finally:
        await heard.aclose()


@pytest.fixture
def end_of():
    return ending
