"""A board over a canvas whose model draws in milliseconds, or waits at each step; no kernel is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("anywidget")

import muse_server

from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.testing import FakeSampler, FakeTextEncoder, tiny_stage


class Gated:
    """A sampler that may wait at each step: `gate` lets one go on, `at` tells that it is at one."""

    steps = 4

    def __init__(self) -> None:
        self.inner = FakeSampler(steps=self.steps)
        self.gate, self.at = threading.Semaphore(0), threading.Semaphore(0)
        self.waiting = False

    def __call__(self, predict: Any, tokens: Any, schedule: Any, generator: Any) -> Iterator[Any]:
        for grid in self.inner(predict, tokens, schedule, generator):
            if self.waiting:
                self.at.release()
                assert self.gate.acquire(timeout=20)
            yield grid


class Notebook:
    """A board's canvas, and both sides of its messages: `sent` to the browser, `receive` from it."""

    def __init__(self) -> None:
        self.sampler = Gated()
        stages = {"base": tiny_stage(16, 0, sampler=self.sampler), "superres": tiny_stage(32, 1)}
        self.canvas = Canvas(stages, FakeTextEncoder(), seed=1, device="cpu")
        self.board = muse_server.Board(self.canvas, height=300)
        self.sent: list[tuple[str, Any]] = []
        self.board.send = lambda content, buffers=None: self.sent.append((content["name"], content["data"]))

    def receive(self, message: Any) -> None:
        """As a kernel has it come from a browser."""
        self.board._handle_msg({"content": {"data": {"method": "custom", "content": message}}, "buffers": []})

    def act(self, do: str, **given: Any) -> None:
        self.receive({"act": {"do": do, **given}})

    def names(self) -> list[str]:
        """What was sent, without the data."""
        return [name for name, _ in self.sent]

    def last(self, name: str) -> Any:
        """The data of the last message of that name, None where there is none."""
        return next((data for each, data in reversed(self.sent) if each == name), None)


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    opened = Notebook()
    yield opened
    opened.sampler.gate.release(100)
    opened.board.close()
