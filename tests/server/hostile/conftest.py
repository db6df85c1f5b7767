"""A studio with its guard and one without, a site of an attacker's, and a real browser that finds all of them here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("playwright")
pytest.importorskip("starlette")

import uvicorn
from muse_server.desk import Desk
from muse_server.gallery import Gallery
from muse_server.web.app import make_app
from muse_server.web.connection import configured
from muse_server.web.guard import Guard
from muse_server.web.offered import Served
from playwright.sync_api import Browser, Page, sync_playwright
from serving import serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muse_studio.registry.plugins import Registry
from muse_studio.sampling.model import Model
from muse_studio.testing import FakeSampler, FakeTextEncoder, tiny_stage

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NAMES = "MAP attacker.test 127.0.0.1, MAP rebound.test 127.0.0.1"
"""What the browser takes these names for, as the name server of whoever owns them would say."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder open a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


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
    """A server that runs.

    done: how many canvases it was made to open. answers: method, path, the head's lines, and the status of each answer.
    """

    def __init__(self, app: ASGIApp, desk: Counting, port: int) -> None:
        self._app, self._desk, self.port = app, desk, port
        self.address = f"http://127.0.0.1:{port}"
        self.answers: list[Answer] = []

    @property
    def done(self) -> int:
        return self._desk.done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                lines = {name.decode(): value.decode() for name, value in scope["headers"]}
                self.answers.append(Answer(scope["method"], scope["path"], lines, message["status"]))

        await self._app(scope, receive, noted)


@contextmanager
def studio(folder: Path, guarded: bool, **settings: Any) -> Iterator[Studio]:
    model = Model({"base": tiny_stage(16, seed=1, sampler=FakeSampler(steps=2))}, FakeTextEncoder())
    model.hook = Registry(entries=()).hook
    desk = Counting(model, Gallery(folder), folder)

    def make(port: int) -> uvicorn.Config:
        app = make_app(desk, Served("models/tiny", "127.0.0.1", port, **settings))
        if not guarded:
            app.user_middleware = [each for each in app.user_middleware if each.cls is not Guard]
        made.append(Studio(app, desk, port))
        return configured(made[0])

    made: list[Studio] = []
    with serving(make):
        yield made[0]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("guarded"), True) as running:
        yield running


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The control: what an attack does where nothing hinders it."""
    with studio(tmp_path_factory.mktemp("open"), False) as running:
        yield running


@pytest.fixture(scope="module")
def attacker() -> Iterator[int]:
    """The port of the attacker's site: one page, empty, whose scripts a test writes."""

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>kittens</title><p>kittens")

    with serving(lambda port: configured(Starlette(routes=[Route("/", page)]), lifespan="off")) as port:
        yield port


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        assert not os.environ.get("CI"), f"none of {', '.join(BROWSERS)} is installed, and CI may not go without"
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    rules = f"--host-resolver-rules={NAMES}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", rules])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of a browser that remembers nothing."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture(params=["attacker.test", "127.0.0.1"])
def evil(request: pytest.FixtureRequest, page: Page, attacker: int) -> Page:
    """The attacker's page, open: at a name of its own, and at another port of this machine."""
    page.goto(f"http://{request.param}:{attacker}/")
    return page


@pytest.fixture(scope="module")
def classroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("classroom"), True, token="t" * 43) as running:
        yield running
