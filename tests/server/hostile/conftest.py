"""A studio with its guard and one without, a site of an attacker's, and a real browser that finds all of them here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("starlette")

from muse_server.web.connection import configured
from playwright.sync_api import Browser, Page, Playwright
from serving import serving
from small_studio import Studio, small_studio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

HERE = Path(__file__).parent

NAMES = "MAP attacker.test 127.0.0.1, MAP rebound.test 127.0.0.1"
"""What the browser takes these names for, as the name server of whoever owns them would say."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder open a browser."""
    for item in items:
        if str(item.path).startswith(f"{HERE}/"):
            item.add_marker("browser")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with small_studio(tmp_path_factory.mktemp("guarded")) as running:
        yield running


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The control: what an attack does where nothing hinders it."""
    with small_studio(tmp_path_factory.mktemp("open"), guarded=False) as running:
        yield running


@pytest.fixture(scope="module")
def classroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with small_studio(tmp_path_factory.mktemp("classroom"), token="t" * 43) as running:
        yield running


@pytest.fixture(scope="module")
def attacker() -> Iterator[int]:
    """The port of the attacker's site: one page, empty, whose scripts a test writes."""

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>kittens</title><p>kittens")

    with serving(lambda port: configured(Starlette(routes=[Route("/", page)]), lifespan="off")) as port:
        yield port


@pytest.fixture(scope="module")
def browser(driver: Playwright, chromium: str) -> Iterator[Browser]:
    browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", f"--host-resolver-rules={NAMES}"])
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
