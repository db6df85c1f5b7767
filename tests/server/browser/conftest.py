"""One real server and one real browser for all of these tests; where there is no browser they are left out."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")
pytest.importorskip("starlette")

from easel import Easel
from playwright.sync_api import Browser, Playwright, expect
from serving import until
from studios import started

expect.set_options(timeout=30_000)  # a busy machine is no failure of what is tested

HERE = Path(__file__).parent
SHOTS = Path(__file__).parents[3] / "build" / "studio"
TOKEN = "a-token-for-a-class-of-thirty"

QUICK = {"base": {"sampler": {"steps": 6}}, "superres": {"sampler": {"steps": 3}}}
"""Settings as the page remembers them, for tests to which a picture's looks don't matter."""

FILTER = '''
"""Refuses a word, and looks at every picture."""
from muse_studio import hookimpl

@hookimpl
def muse_prompt(prompt):
    return "no dragons in this class" if "dragon" in prompt else None

@hookimpl
def muse_picture(image, prompt):
    return None
'''


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder open a browser."""
    for item in items:
        if str(item.path).startswith(f"{HERE}/"):
            item.add_marker("browser")


def asked(studio: str, method: str, path: str, body: Any = None) -> Any:
    """What the server answers, asked without the page."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{studio}api/{path}", content, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def browser(driver: Playwright, chromium: str) -> Iterator[Browser]:
    """Debian's Chromium, started once for a file of tests."""
    browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a studio with the embedded model."""
    with started(tmp_path_factory.mktemp("studio")) as address:
        yield address


@pytest.fixture(scope="session")
def apple(studio: str) -> str:
    """The id of a canvas on which an apple is drawn, which others are copied of."""
    id = asked(studio, "POST", "sessions", {})["id"]
    asked(studio, "POST", f"sessions/{id}/actions", {"do": "generate", "prompt": "a red apple, noto style", "seed": 7})
    until(lambda: asked(studio, "GET", f"sessions/{id}")["place"] == 1)
    return id


@pytest.fixture(scope="session")
def classroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, token and all, of a studio that asks for a token, with filters of words and pictures."""
    folder = tmp_path_factory.mktemp("classroom")
    (folder / "watchful.py").write_text(FILTER)
    with started(folder / "out", f"token={TOKEN}", plugins=[folder / "watchful.py"]) as address:
        yield address


@pytest.fixture
def easels(browser: Browser, studio: str) -> Iterator[Callable[..., Easel]]:
    """Opens pages, each in a browser of its own that remembers nothing; at the end none may have reported anything."""
    opened: list[Easel] = []

    def new(
        address: str = studio, end: str = "", ready: bool = True, remembered: dict[str, Any] | None = None, **how: Any
    ) -> Easel:
        settings = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"} | how
        context = browser.new_context(**settings)
        for key, value in (remembered or {}).items():
            name, text = json.dumps(f"muse-studio.{key}"), json.dumps(json.dumps(value))
            context.add_init_script(f"localStorage.getItem({name}) ?? localStorage.setItem({name}, {text})")
        easel = Easel(context.new_page(), address)
        opened.append(easel)
        if ready:
            easel.open(end)
        return easel

    yield new
    problems = [each for easel in opened for each in easel.problems]
    for easel in opened:
        easel.page.context.close()
    assert problems == []


@pytest.fixture
def easel(easels: Callable[..., Easel]) -> Easel:
    """A page with a blank canvas."""
    return easels()


@pytest.fixture
def drawn(easels: Callable[..., Easel], studio: str, apple: str) -> Easel:
    """A page with a canvas on which an apple is drawn."""
    copy = asked(studio, "POST", "sessions", {"canvas": apple})["id"]
    return easels(remembered={"session": copy, "words": {"prompt": "a red apple, noto style"}, "settings": QUICK})


@pytest.fixture(scope="session")
def shots() -> Path:
    """A folder for pictures of the page, which are looked at by hand."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS
