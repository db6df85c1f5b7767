"""A desk that draws plain colours at once, fails or waits as it is told, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

from muse_server.drawings import Advanced, Drawing, Finished, Partial
from PIL import Image

from muse_studio.images.provenance import Provenance

TOKENS, SIDE = 320, 128
"""Of each picture: its tokens, and its pixels a side where no size is asked for."""


class FakeDesk:
    """`asked`: owners with their drawings. `cancelled`: how many were left before their end.

    failing: what is raised, before the first picture or, where `late`, after a picture's partial ones. waiting: goes on
    for ever after the partial ones, or before all where there are none.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Drawing]] = []
        self.cancelled = 0
        self.failing: Exception | None = None
        self.late = False
        self.waiting = False
        stage = SimpleNamespace(sampler=SimpleNamespace(steps=16), guidance=SimpleNamespace(scale=3.0))
        part = SimpleNamespace(name="halton")
        registry = SimpleNamespace(parts=lambda kind: [part])
        self.model: Any = SimpleNamespace(stages={"base": stage, "superres": stage}, registry=registry)

    @property
    def drawing(self) -> Drawing:
        """What was asked for last."""
        return self.asked[-1][1]

    async def draw(self, owner: str, asked: Drawing) -> AsyncGenerator[Any]:
        """As `Desk.draw`."""
        self.asked.append((owner, asked))
        ended = False
        try:
            await asyncio.sleep(0)
            if self.failing and not self.late:
                raise self.failing
            for index in range(asked.count):
                async for part in self._one(index, asked):
                    yield part
            ended = True
        except Exception:
            ended = True
            raise
        finally:
            self.cancelled += not ended

    async def _one(self, index: int, asked: Drawing) -> AsyncGenerator[Any]:
        image = Image.new("RGB", asked.size or (SIDE, SIDE), (200, 10 * index, 30))
        seed = (100 if asked.seed is None else asked.seed) + index
        if asked.steps:
            yield Advanced(index, "base", 8, 16)
        for number in range(asked.partials):
            yield Partial(index, number, image)
        if self.failing:
            raise self.failing
        if self.waiting:
            await asyncio.Event().wait()
        yield Finished(index, seed, image, Provenance({"use": "canvas", "seed": seed}), TOKENS)
