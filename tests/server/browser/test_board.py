"""The brush: strokes become cells, whatever paints them, and are taken back again."""

from __future__ import annotations

import pytest
from easel import Easel, between
from playwright.sync_api import expect

pytestmark = pytest.mark.slow  # a real browser, or the embedded model: minutes of a default run

ERASER = 32
"""The bit of `buttons` that is a pen's other end."""


def test_a_fast_stroke_has_no_gaps(drawn: Easel) -> None:
    drawn.stroke((1, 1), (6, 4), (6, 7))
    wanted = between((1, 1), (6, 4)) | between((6, 4), (6, 7))
    assert drawn.chosen() == len(wanted)
    assert drawn.freeze_chosen() == wanted


def test_a_stroke_may_begin_and_end_beside_the_picture(drawn: Easel) -> None:
    drawn.stroke((2, -1), (2, 9))
    assert drawn.freeze_chosen() == {(2, column) for column in range(8)}


def test_alt_takes_away_and_strokes_are_undone_before_actions(drawn: Easel) -> None:
    page = drawn.page
    drawn.stroke((0, 0), (0, 5))
    page.keyboard.down("Alt")
    drawn.stroke((0, 2), (0, 3))
    page.keyboard.up("Alt")
    assert drawn.chosen() == 4
    page.keyboard.press("Control+z")
    assert drawn.chosen() == 6
    page.keyboard.press("Control+Shift+z")
    assert drawn.chosen() == 4
    assert drawn.freeze_chosen() == {(0, 0), (0, 1), (0, 4), (0, 5)}
    page.keyboard.press("Control+z")
    drawn.until(lambda: drawn.done() == 1)
    assert drawn.cells() == set()
    page.keyboard.press("Control+Shift+z")
    drawn.until(lambda: drawn.done() == 2)


def test_a_box_and_a_wide_brush(drawn: Easel) -> None:
    page = drawn.page
    page.keyboard.press("x")
    drawn.stroke((5, 5), (2, 3), steps=3)
    box = {(row, column) for row in range(2, 6) for column in range(3, 6)}
    assert drawn.chosen() == len(box)
    page.keyboard.press("Escape")
    assert drawn.chosen() == 0
    page.keyboard.press("b")
    page.keyboard.press("]")
    drawn.stroke((4, 4), (4, 4))
    assert drawn.freeze_chosen() == {(4, 4), (4, 5), (5, 4), (5, 5)}


def test_tools_that_act_do_so_at_the_end_of_a_stroke(drawn: Easel) -> None:
    page = drawn.page
    page.keyboard.press("f")
    drawn.stroke((0, 0), (0, 7), steps=5)
    drawn.until(lambda: drawn.done() == 2)
    page.keyboard.press("t")
    drawn.stroke((0, 6), (0, 7))
    drawn.until(lambda: drawn.done() == 3)
    assert drawn.cells() == {(0, column) for column in range(6)}
    page.keyboard.press("e")
    drawn.stroke((1, 3), (1, 3))
    drawn.until(lambda: drawn.done() == 4)
    assert {(1, 3), (2, 3)} <= drawn.cells("erased")
    assert not drawn.cells("erased") & drawn.cells()  # what is frozen stays


def test_a_finger_paints_and_two_zoom(drawn: Easel) -> None:
    tools = drawn.devtools()

    def touch(kind: str, *points: tuple[float, float]) -> None:
        told = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})

    touch("touchStart", drawn.at(1, 1))
    touch("touchMove", drawn.at(1, 6))
    touch("touchEnd")
    assert drawn.chosen() == 6
    before = drawn.page.locator(".handle.right").bounding_box()
    touch("touchStart", drawn.at(4, 2))
    touch("touchStart", drawn.at(4, 2), drawn.at(4, 5))
    touch("touchMove", drawn.at(4, 1), drawn.at(4, 7))
    touch("touchEnd")
    assert drawn.chosen() == 6
    after = drawn.until(lambda: (box := drawn.page.locator(".handle.right").bounding_box()) != before and box)
    assert after["x"] > before["x"]


def test_a_pen_paints_and_its_eraser_takes_away(drawn: Easel) -> None:
    tools = drawn.devtools()

    def pen(kind: str, place: tuple[float, float], pressed: int) -> None:
        told = {"type": kind, "x": place[0], "y": place[1], "pointerType": "pen", "force": 0.5}
        tools.send("Input.dispatchMouseEvent", told | {"button": "left", "buttons": pressed, "clickCount": 1})

    pen("mousePressed", drawn.at(3, 0), 1)
    pen("mouseMoved", drawn.at(3, 7), 1)
    pen("mouseReleased", drawn.at(3, 7), 0)
    assert drawn.chosen() == 8
    drawn.page.evaluate(
        """([[fromX, fromY], [toX, toY], eraser]) => {
          const canvas = document.querySelector("#board canvas");
          const tell = (name, clientX, clientY, more) => canvas.dispatchEvent(new PointerEvent(name, {
            pointerId: 9, pointerType: "pen", clientX, clientY, bubbles: true, cancelable: true, ...more }));
          tell("pointerdown", fromX, fromY, { button: 5, buttons: eraser });
          tell("pointermove", toX, toY, { buttons: eraser });
          tell("pointerup", toX, toY, { button: 5 });
        }""",
        [drawn.at(3, 2), drawn.at(3, 4), ERASER],
    )
    assert drawn.chosen() == 5


def test_the_board_is_walked_and_painted_by_keys(drawn: Easel) -> None:
    page = drawn.page
    page.focus("#play")
    board = page.locator("#board canvas")
    while not board.evaluate("canvas => canvas === document.activeElement"):
        page.keyboard.press("Shift+Tab")
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "Space", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(page.locator("#board [aria-live]")).to_have_text("row 2, column 4, chosen")
    assert drawn.freeze_chosen() == {(1, 2), (1, 3)}


@pytest.mark.parametrize("way", ["zoom", "choice"])
def test_the_second_stages_cells_are_chosen(drawn: Easel, way: str) -> None:
    page = drawn.page
    if way == "choice":
        page.select_option("#among", "superres")
        drawn.stroke((0, 0), (0, 0))
        assert drawn.chosen() == 1
        return
    for _ in range(5):
        page.keyboard.press("+")
    page.mouse.move(*drawn.at(3.5, 3.5))
    expect(page.locator("#hover")).to_contain_text("superres, row")
    page.keyboard.press("0")
    page.mouse.move(*drawn.at(3, 3))
    expect(page.locator("#hover")).to_contain_text("base, row 4, column 4")


def test_zoom_and_pan_by_wheel_and_middle_button(drawn: Easel) -> None:
    page, handle = drawn.page, drawn.page.locator(".handle.left")
    before = handle.bounding_box()
    page.mouse.move(*drawn.at(4, 4))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -60)
    page.keyboard.up("Control")
    drawn.until(lambda: handle.bounding_box() != before)
    before = handle.bounding_box()
    page.mouse.down(button="middle")
    page.mouse.move(*drawn.at(5, 5))
    page.mouse.up(button="middle")
    after = drawn.until(lambda: (box := handle.bounding_box()) != before and box)
    assert (after["x"] > before["x"]) and (after["y"] > before["y"])
    assert drawn.chosen() == 0
