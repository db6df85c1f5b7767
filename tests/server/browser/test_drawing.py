"""Drawing on the page: seen step by step, stopped, drawn anew in a part, staged, extended, stepped through again."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from easel import Easel, far_from
from playwright.sync_api import expect

pytestmark = pytest.mark.slow  # a real browser, or the embedded model: minutes of a default run

MARKS = "performance.getEntriesByName('muse-step').map(mark => ({at: mark.startTime, ...mark.detail}))"

SHORT = {"base": {"sampler": {"steps": 6}}, "superres": {"sampler": {"steps": 3}}}


def test_steps_rise_until_the_picture_is_there(easel: Easel, shots: Path) -> None:
    easel.page.screenshot(path=shots / "blank.png")
    easel.draw()
    steps = [(each["stage"], each["step"]) for each in easel.page.evaluate(MARKS)]
    base = [step for stage, step in steps if stage == "base"]
    later = [step for stage, step in steps if stage == "superres"]
    assert base == sorted(set(base)) and later == sorted(set(later))
    assert steps == [("base", step) for step in base] + [("superres", step) for step in later]
    assert (base[-1], later[-1]) == (16, 8)
    assert len(steps) > 12  # a slow reader may miss some
    assert len(easel.cells("erased")) == 0
    expect(easel.page.locator(".cells .full")).to_have_count(24)
    assert easel.image().std() > 30
    easel.page.screenshot(path=shots / "drawn.png")


def test_from_an_event_to_the_page(easel: Easel) -> None:
    easel.draw()
    late = [each["late"] for each in easel.page.evaluate(MARKS)]
    print(f"\nevent to page: median {statistics.median(late):.1f} ms of {len(late)}, most {max(late):.1f} ms")
    assert statistics.median(late) < 200  # what it is on a quiet machine, the benchmark says


def test_stopping_takes_two_steps_at_most(drawn: Easel) -> None:
    before, image = drawn.state(), drawn.image()
    drawn.page.check("[name=count][value='9']", force=True)
    drawn.page.click("#draw")
    drawn.until(lambda: len(drawn.page.evaluate(MARKS)) > 6)
    drawn.page.click("#stop")
    expect(drawn.page.locator("#queue")).to_have_text("stopped")
    clicked, stopped = drawn.page.evaluate(
        "['muse-cancel', 'muse-cancelled'].map(name => performance.getEntriesByName(name).at(-1).startTime)"
    )
    after = [each for each in drawn.page.evaluate(MARKS) if each["at"] > clicked]
    print(f"\nfrom the click to stopped: {stopped - clicked:.0f} ms, {len(after)} steps")
    assert len(after) <= 2
    chosen = {"staged", "staged_job"}  # what was finished before the click may still be taken
    assert {key: each for key, each in drawn.state().items() if key not in chosen} == {
        key: each for key, each in before.items() if key not in chosen
    }
    assert np.array_equal(drawn.image(), image)


def test_a_region_drawn_anew_leaves_all_other_pixels(drawn: Easel) -> None:
    before = drawn.image()
    drawn.stroke((3, 3), (3, 4))
    assert drawn.chosen() == 2
    drawn.page.fill("#seed", "11")
    drawn.page.click("[data-do=reroll]")
    drawn.until(lambda: drawn.done() == 2)
    after = drawn.image()
    far = far_from([(3, 3), (3, 4)], 2, (8, 8)).repeat(16, 0).repeat(16, 1)
    assert np.array_equal(before[far], after[far])
    assert not np.array_equal(before[~far], after[~far])


def test_four_are_staged_and_one_is_taken(easel: Easel, shots: Path) -> None:
    easel.page.check("[name=count][value='4']", force=True)
    easel.draw("a cat, twemoji style", seed=20)
    choices = easel.page.locator(".choice")
    expect(choices).to_have_count(4)
    assert easel.done() == 0
    easel.page.evaluate("document.activeElement.blur()")
    easel.page.keyboard.press("3")
    expect(choices.nth(2)).to_have_attribute("aria-pressed", "true")
    easel.page.keyboard.press("ArrowRight")
    expect(choices.nth(3)).to_have_attribute("aria-pressed", "true")
    easel.page.keyboard.press("ArrowLeft")
    expect(easel.page.locator("#empty")).to_be_hidden()
    easel.page.screenshot(path=shots / "staged.png")
    easel.page.keyboard.press("Enter")
    easel.until(lambda: easel.done() == 1)
    assert easel.state()["history"][0]["seed"] == 22
    expect(easel.page.locator("#staged")).to_be_hidden()


def test_one_is_asked_for_where_it_is_not_taken_at_once(drawn: Easel) -> None:
    drawn.page.uncheck("#at-once")
    drawn.stroke((2, 2), (4, 4))
    drawn.page.click("[data-do=reroll]")
    expect(drawn.page.locator(".choice")).to_have_count(1)
    drawn.page.click("#discard")
    expect(drawn.page.locator("#staged")).to_be_hidden()
    assert drawn.done() == 1


def test_a_side_is_dragged_and_filled(drawn: Easel, shots: Path) -> None:
    handle = drawn.page.locator(".handle.right").bounding_box()
    assert handle is not None
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    cell = drawn.at(0, 1)[0] - drawn.at(0, 0)[0]
    drawn.page.mouse.move(x, y)
    drawn.page.mouse.down()
    drawn.page.mouse.move(x + 3.9 * cell, y, steps=4)
    drawn.page.mouse.up()
    drawn.until(lambda: drawn.done() == 2)
    assert drawn.state()["size"] == [192, 128]
    expect(drawn.page.locator("[data-do=fill]")).to_be_enabled()
    drawn.page.click("[data-do=fill]")
    drawn.until(lambda: drawn.done() == 3)
    assert drawn.cells("erased") == set()
    drawn.page.screenshot(path=shots / "extended.png")
    for left in (2, 1):
        drawn.page.click("#undo")
        drawn.until(lambda left=left: drawn.done() == left)
    assert drawn.state()["size"] == [128, 128]


def test_a_handle_is_moved_by_keys(drawn: Easel) -> None:
    drawn.page.focus(".handle.bottom")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        drawn.page.keyboard.press(key)
    drawn.until(lambda: drawn.done() == 2)
    assert drawn.state()["size"] == [128, 160]


def test_the_steps_are_gone_through_again(easel: Easel) -> None:
    easel.draw()
    told, row = easel.page.locator("#steps-told"), easel.page.locator(".cells .full")
    easel.page.keyboard.press("Escape")
    easel.page.evaluate("document.activeElement.blur()")
    easel.page.keyboard.press("ArrowLeft")
    expect(told).to_have_text("superres 7/8")
    expect(row).to_have_count(23)
    easel.page.keyboard.press("Space")
    expect(row).to_have_count(24)
    easel.page.click("#play")
    expect(told).to_have_text(re.compile("base"))
    expect(told).to_have_text("superres 8/8")
    expect(easel.page.locator("#play")).to_have_attribute("aria-pressed", "false")
    easel.page.mouse.move(*easel.at(4, 4))
    expect(easel.page.locator("#hover")).to_contain_text("base, row 5, column 5: code")
    expect(easel.page.locator("#hover")).to_contain_text("decided at step")
    easel.page.click("[data-do=freeze]")
    easel.until(lambda: easel.done() == 2)
    expect(told).to_have_text("all steps")  # what draws nothing leaves them to be gone through


def test_steps_that_are_not_kept_any_more_are_no_riddle(drawn: Easel) -> None:
    drawn.page.route("**/steps?*", lambda route: route.fulfill(json={"steps": []}))
    drawn.page.click("#step-back")
    expect(drawn.page.locator("#steps-told")).to_have_text("its steps are gone")
    expect(drawn.page.locator("#step-back")).to_be_disabled()


def test_a_picture_is_changed_by_words_and_varied(drawn: Easel) -> None:
    drawn.page.evaluate("document.activeElement.blur()")
    drawn.page.keyboard.press("v")
    drawn.until(lambda: drawn.done() == 2)
    drawn.page.fill("#prompt", "a green apple, noto style")
    drawn.page.click("#tab-settings")
    drawn.page.click("#stage-editors summary")
    drawn.page.fill("[id='editor.mask-free.iterations']", "3")
    drawn.page.keyboard.press("Tab")
    drawn.page.click("[data-editor=mask-free]")
    drawn.until(lambda: drawn.done() == 3)
    did = drawn.state()["history"][-1]["did"]
    assert (did["do"], did["editor"]["iterations"]) == ("edit", 3)


def test_less_movement_shows_the_last_step_at_once(easels: Callable[..., Easel]) -> None:
    easel = easels(
        reduced_motion="reduce",
        remembered={"settings": {"base": {"sampler": {"steps": 6}}, "superres": {"sampler": {"steps": 3}}}},
    )
    easel.draw()
    easel.page.click("#step-back")
    expect(easel.page.locator(".cells .full")).to_have_count(8)
    easel.page.click("#play")
    expect(easel.page.locator(".cells .full")).to_have_count(9)
    expect(easel.page.locator("#play")).to_have_attribute("aria-pressed", "false")
