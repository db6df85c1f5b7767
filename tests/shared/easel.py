"""The studio's page as a test sees it: its canvas, its cells on the screen, and what the server says of them."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import CDPSession, ConsoleMessage, Page, expect

MARGIN = 40
"""Pixels of the screen around a picture that fits the board."""


class Easel:
    """A page that is open and ready."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address.split("#")[0]
        self.problems: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _said(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.problems.append(f"{said.text} ({said.location.get('url')})")

    def open(self, end: str = "") -> Easel:
        """Load the page, and wait until it can be used."""
        self.page.goto(self.address + end)
        return self.ready()

    def ready(self) -> Easel:
        """Wait until it can be used."""
        expect(self.page.locator("html[data-ready]")).to_have_count(1, timeout=60_000)
        return self

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """Wait until something is true, and give what it was; the browser goes on meanwhile."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "it did not come true in time"
            self.page.wait_for_timeout(20)
        return found

    # what the server has

    @property
    def session(self) -> str:
        """The id of the canvas."""
        return self.page.evaluate("JSON.parse(sessionStorage.getItem('muse-studio.session'))")

    def state(self) -> dict[str, Any]:
        """The canvas as the server tells it."""
        return self.page.request.get(f"{self.address}api/sessions/{self.session}").json()

    def image(self) -> NDArray[np.uint8]:
        """The picture as the server draws it, uint8[H, W, 3]."""
        content = self.page.request.get(f"{self.address}api/sessions/{self.session}/image").body()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def cells(self, what: str = "frozen", stage: str = "base") -> set[tuple[int, int]]:
        """Row and column of all cells that are so."""
        return read(self.state()["grids"][stage], what)

    # what is done

    def draw(self, prompt: str = "a red apple, noto style", seed: int = 7) -> None:
        """Draw, and wait for the end."""
        self.page.fill("#prompt", prompt)
        self.page.fill("#seed", str(seed))
        self.page.click("#draw")
        self.ended()

    def ended(self) -> None:
        """Wait until nothing is drawn."""
        self.until(lambda: self.state()["job"] is None)
        expect(self.page.locator("#draw")).to_be_visible()

    def done(self) -> int:
        """How many actions the canvas stands at."""
        return self.state()["place"]

    def at(self, row: float, column: float, grid: tuple[int, int] = (8, 8)) -> tuple[float, float]:
        """Where a cell's middle is on the screen, while the picture fits the board."""
        box = self.page.locator("#board canvas").bounding_box()
        assert box is not None
        width, height = self.state()["size"]
        scale = min((box["width"] - 2 * MARGIN) / width, (box["height"] - 2 * MARGIN) / height)
        left, top = box["x"] + (box["width"] - width * scale) / 2, box["y"] + (box["height"] - height * scale) / 2
        return left + (column + 0.5) / grid[1] * width * scale, top + (row + 0.5) / grid[0] * height * scale

    def stroke(self, *way: tuple[float, float], steps: int = 1) -> None:
        """Paint from cell to cell with the mouse, which is told `steps` times between two."""
        self.page.mouse.move(*self.at(*way[0]))
        self.page.mouse.down()
        for each in way[1:]:
            self.page.mouse.move(*self.at(*each), steps=steps)
        self.page.mouse.up()

    def chosen(self) -> int:
        """How many tokens the page says are chosen."""
        text = self.page.locator("#region-name").inner_text()
        return 0 if text == "whole picture" else int(text.split()[0])

    def freeze_chosen(self) -> set[tuple[int, int]]:
        """Freeze what is chosen, and give the cells that the server then has frozen."""
        before = self.done()
        self.page.click("[data-do=freeze]")
        self.until(lambda: self.done() == before + 1)
        return self.cells()

    def devtools(self) -> CDPSession:
        """For touch and pen, which playwright has no calls for."""
        return self.page.context.new_cdp_session(self.page)


def read(grids: dict[str, Any], what: str) -> set[tuple[int, int]]:
    """Cells of a stage's grids as rows and columns."""
    rows, columns = grids["grid"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(grids[what]), np.uint8))[: rows * columns]
    return {(int(row), int(column)) for row, column in np.argwhere(bits.reshape(rows, columns))}


def between(start: tuple[int, int], end: tuple[int, int]) -> set[tuple[int, int]]:
    """The cells of a line between two: one a row, or one a column where it is flat."""
    points = np.linspace(start, end, max(abs(start[0] - end[0]), abs(start[1] - end[1])) + 1)
    return {(round(row), round(column)) for row, column in points}


def far_from(cells: Iterable[tuple[int, int]], rings: int, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """bool[h, w]: the cells that are more than some rings away from all of these."""
    far = np.ones(grid, dtype=np.bool_)
    for row, column in cells:
        far[max(0, row - rings) : row + rings + 1, max(0, column - rings) : column + rings + 1] = False
    return far
