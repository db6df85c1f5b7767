"""A whole studio on loopback, with a model of fakes that draws in milliseconds, and with or without its guard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from muse_server.desk import Desk
from muse_server.gallery import Gallery
from muse_server.web.app import make_app
from muse_server.web.connection import configured
from muse_server.web.guard import Guard
from muse_server.web.offered import Served
from serving import serving
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muse_studio.registry.plugins import Registry
from muse_studio.sampling.model import Model
from muse_studio.testing import FakeSampler, FakeTextEncoder, tiny_stage


class Unhurried:
    """A sampler that takes its time at each step, as a real one does: without a hold on the interpreter."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.steps, self._seconds = steps, seconds
        self._inner = FakeSampler(steps=steps)

    def __call__(self, *asked: Any) -> Iterator[Any]:
        for grid in self._inner(*asked):
            time.sleep(self._seconds)
            yield grid


class Answer(NamedTuple):
    """What was asked, and how it was answered."""

    method: str
    path: str
    head: dict[str, str]
    status: int


class Counting(Desk):
    """Counts what it was made to do."""

    done = 0

    async def open(self, *asked: Any, **named: Any) -> Any:
        self.done += 1
        return await super().open(*asked, **named)


class Studio:
    """A server that runs; `answers` has all of them."""

    def __init__(self, app: ASGIApp, desk: Counting, port: int) -> None:
        self._app, self.desk, self.port = app, desk, port
        self.address = f"http://127.0.0.1:{port}"
        self.answers: list[Answer] = []

    @property
    def done(self) -> int:
        """How many canvases it was made to open."""
        return self.desk.done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer, and note it."""

        async def noted(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                lines = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
                self.answers.append(Answer(scope["method"], scope["path"], lines, message["status"]))

        await self._app(scope, receive, noted)


@contextmanager
def small_studio(
    folder: Path, guarded: bool = True, steps: int = 2, seconds: float = 0.0, host: str = "127.0.0.1", **settings: Any
) -> Iterator[Studio]:
    """Serves a model of one stage of 16 x 16 pixels; settings as `Served` has them."""
    stage = tiny_stage(16, seed=1, sampler=Unhurried(steps, seconds))
    model = Model({"base": stage}, FakeTextEncoder())
    model.hook = Registry(entries=()).hook
    desk = Counting(model, Gallery(folder), folder)
    made: list[Studio] = []

    def make(port: int) -> uvicorn.Config:
        app = make_app(desk, Served("models/tiny", host, port, **settings))
        if not guarded:
            app.user_middleware = [each for each in app.user_middleware if each.cls is not Guard]
        made.append(Studio(app, desk, port))
        return configured(made[0])

    with serving(make, host):
        yield made[0]
