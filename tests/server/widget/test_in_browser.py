"""The widget's module in a real browser, its messages carried to a real board: buttons and brush reach the canvas."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

MODEL = """
async (source) => {
  const heard = new Set();
  const model = {
    get: (name) => ({ height: 300 })[name],
    on: (name, hear) => heard.add(hear),
    off: (name, hear) => heard.delete(hear),
    send: (message) => toKernel(JSON.stringify(message)),
  };
  window.fromKernel = (message) => heard.forEach((hear) => hear(message));
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const widget = (await import(address)).default;
  window.taken = widget.render({ model, el: document.getElementById("cell") });
  window.hearing = () => heard.size;
}
"""
"""As anywidget has it: a module by a blob's address, and a model with `get`, `on`, `off` and `send`."""


class Cell:
    """A notebook's cell that shows the board; messages go to and fro while `until` waits."""

    def __init__(self, page: Page, notebook: Any) -> None:
        self.page, self.notebook = page, notebook
        self.problems: list[str] = []
        self._told: queue.Queue[Any] = queue.Queue()
        page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.expose_function("toKernel", lambda text: self._told.put(("heard", text)))
        page.set_content(f"<style>{notebook.board._css}</style><div id='cell' style='width: 700px'></div>")
        notebook.board.send = lambda content, buffers=None: self._told.put(("told", content))
        page.evaluate(MODEL, notebook.board._esm)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Carry messages until something is true, and give what it was."""
        end = time.monotonic() + 20
        while not (found := condition()):
            assert time.monotonic() < end, "it did not come true in time"
            self.page.wait_for_timeout(10)
            while not self._told.empty():
                kind, message = self._told.get()
                if kind == "told":
                    self.notebook.sent.append((message["name"], message["data"]))
                    self.page.evaluate("(message) => fromKernel(message)", message)
                else:
                    self.notebook.receive(json.loads(message))
        return found

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def done(self) -> list[str]:
        return [did["do"] for did in self.notebook.canvas.history]

    def at(self, row: int, column: int, cells: int = 4) -> tuple[float, float]:
        """Where a cell of the grid is on the screen."""
        box = self.page.locator(".muse-surface canvas").bounding_box()
        assert box is not None
        side = min(box["width"], box["height"]) - 80  # the board's margins
        left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
        return left + (column + 0.5) * side / cells, top + (row + 0.5) * side / cells


@pytest.fixture
def cell(driver: Any, chromium: str, notebook: Any) -> Iterator[Cell]:
    browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    opened = Cell(browser.new_page(viewport={"width": 800, "height": 500}), notebook)
    yield opened
    browser.close()
    assert opened.problems == []


def test_it_draws_and_shows_each_step(cell: Cell) -> None:
    page, sampler = cell.page, cell.notebook.sampler
    sampler.waiting = True
    page.get_by_label("Prompt").fill("a fox")
    page.get_by_label("Prompt").press("Enter")
    sampler.gate.release(2)
    status = page.get_by_role("status")
    cell.until(lambda: status.inner_text() == "base: step 2 of 4")
    expect(page.get_by_role("button", name="Draw", exact=True)).to_be_disabled()
    sampler.gate.release(2)
    cell.until(lambda: cell.done() == ["generate"] and page.get_by_role("button", name="Draw", exact=True).is_enabled())
    assert cell.notebook.canvas.prompt == "a fox" and status.inner_text() == ""


def test_cancel_leaves_the_canvas_as_it_was(cell: Cell) -> None:
    cell.notebook.canvas.generate("a cat")
    cell.notebook.sampler.waiting = True
    cell.page.get_by_label("Prompt").fill("a fox")
    cell.press("Draw")
    cell.notebook.sampler.gate.release()
    cell.until(lambda: cell.page.get_by_role("button", name="Cancel").is_enabled())
    cell.press("Cancel")
    cell.until(lambda: not cell.notebook.board._hand._job or cell.notebook.board._hand._job.stopping)
    cell.notebook.sampler.gate.release()
    cell.until(lambda: "as it was" in cell.page.get_by_role("status").inner_text())
    assert cell.done() == ["generate"] and cell.notebook.canvas.prompt == "a cat"


def test_a_stroke_freezes_its_cells(cell: Cell) -> None:
    cell.notebook.canvas.generate("a cat")
    cell.notebook.board.refresh()
    cell.until(lambda: cell._told.empty())
    cell.press("Freeze")
    cell.page.mouse.move(*cell.at(1, 0))
    cell.page.mouse.down()
    cell.page.mouse.move(*cell.at(1, 3), steps=2)
    cell.page.mouse.up()
    cell.until(lambda: cell.done() == ["generate", "freeze"])
    frozen = cell.notebook.canvas.now.frozen["base"][0]
    assert [(int(row), int(column)) for row, column in frozen.nonzero()] == [(1, 0), (1, 1), (1, 2), (1, 3)]
    cell.press("Undo")
    cell.until(lambda: cell.done() == ["generate"])


def test_a_refusal_is_told(cell: Cell) -> None:
    cell.until(lambda: cell.page.evaluate("hearing()") > 0)
    cell.press("Fill")
    cell.until(lambda: cell.notebook.last("done") is not None)
    cell.page.get_by_label("Prompt").fill("a" * 2001)
    cell.press("Draw")
    cell.until(lambda: "2000" in cell.page.get_by_role("status").inner_text())
    assert cell.done() == ["fill"]


def test_taken_away_it_hears_no_more(cell: Cell) -> None:
    assert cell.page.evaluate("hearing()") == 2
    cell.page.evaluate("taken()")
    assert cell.page.evaluate("hearing()") == 0
