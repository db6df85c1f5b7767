"""One driver of browsers at a time: a process can't start it twice, and no test of asyncio can run beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a real browser; without one its tests are skipped, but fail in CI."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        assert not os.environ.get("CI"), f"none of {', '.join(BROWSERS)} is installed, and CI may not go without"
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    """What starts browsers: `driver.chromium.launch(executable_path=chromium)`.

    It keeps an event loop running in this thread while it is there, so that it ends with its file of tests.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started
