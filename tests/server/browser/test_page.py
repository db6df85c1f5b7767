"""The page itself: settings, keys, narrow and dark, for all; in a class, with a filter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from easel import Easel
from npm import package
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow  # a real browser, or the embedded model: minutes of a default run

AXE = "4.14.1"


def test_settings_are_changed_told_and_reset(drawn: Easel) -> None:
    page = drawn.page
    expect(page.locator("#stages .curve polyline").first).to_be_attached()
    page.click("#reset-all")
    steps = page.locator("[data-path='base.sampler.steps']")
    page.fill("[id='base.sampler.steps']", "0")
    page.keyboard.press("Tab")
    expect(steps.locator(".problem")).to_contain_text("steps")
    page.fill("[id='base.sampler.steps']", "5")
    page.keyboard.press("Tab")
    expect(steps.locator(".problem")).to_have_count(0)
    expect(page.locator("[data-path='base.sampler.steps'].changed")).to_have_count(1)
    page.click("#as-yaml")
    expect(page.locator("#text-name")).to_have_text("As a recipe")
    expect(page.locator("#text-body")).to_contain_text("steps: 5")
    page.keyboard.press("Escape")
    page.click("#as-code")
    expect(page.locator("#text")).to_be_visible()
    expect(page.locator("#text-name")).to_have_text("As Python")
    expect(page.locator("#text-body")).to_contain_text("a red apple, noto style")
    page.keyboard.press("Escape")
    steps.get_by_role("button", name="Reset steps").click()
    expect(page.locator("#stages .changed")).to_have_count(0)
    page.select_option("[id='base.schedule']", "sigmoid")
    expect(page.locator("[data-path='base.schedule.tau']")).to_be_visible()
    page.locator("[data-path='base.schedule']").get_by_role("button", name="What sigmoid is").click()
    expect(page.locator("#about-body")).to_contain_text("tau")


def test_changed_settings_are_drawn_with(drawn: Easel) -> None:
    page = drawn.page
    page.select_option("[id='base.sampler']", "halton")
    page.fill("[id='base.sampler.steps']", "4")
    page.keyboard.press("Tab")
    page.fill("#seed", "1")
    page.click("#draw")
    drawn.until(lambda: drawn.done() == 2)
    settings = drawn.state()["history"][-1]["did"]["settings"]
    assert settings["base"]["sampler"] == {"use": "halton", "steps": 4}


def test_keys_work_but_not_in_a_text_field(drawn: Easel) -> None:
    page = drawn.page
    page.evaluate("document.activeElement.blur()")
    for key, tool in {"x": "box", "e": "erase", "f": "freeze", "t": "thaw", "b": "brush"}.items():
        page.keyboard.press(key)
        expect(page.locator("[data-tool][aria-pressed=true]")).to_have_attribute("data-tool", tool)
    page.keyboard.press("g")
    expect(page.locator("#grid")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.focus("#prompt")
    page.keyboard.type(" fgx?")
    expect(page.locator("#grid")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("Enter")
    drawn.until(lambda: drawn.done() == 2)
    assert drawn.state()["history"][-1]["did"]["prompt"].endswith("fgx?")


def test_a_phone_has_all_of_it_in_one_column(easels: Callable[..., Easel], apple: str, shots: Path) -> None:
    remembered = {"session": apple, "words": {"prompt": "a red apple, noto style"}}
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = easels(remembered=remembered, **phone).page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.screenshot(path=shots / "phone.png")
    page.tap("[data-sheet=history]")
    expect(page.locator(".moment").first).to_be_visible()
    page.tap("#tab-settings")
    expect(page.locator("[id='base.sampler']")).to_be_visible()
    page.screenshot(path=shots / "phone-settings.png")
    page.tap("#panel-close")
    expect(page.locator("[id='base.sampler']")).to_be_hidden()
    for selector in ("#draw", "[data-tool=brush]", "#board", "#words"):
        assert page.locator(selector).bounding_box()["width"] > 40  # type: ignore[index]


def test_light_and_dark_are_chosen_and_remembered(drawn: Easel, shots: Path) -> None:
    page = drawn.page
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    dark = page.evaluate(ground)
    assert dark != light
    page.screenshot(path=shots / "dark.png")
    page.reload()
    drawn.ready()
    assert page.evaluate(ground) == dark


def test_progress_is_told_sparingly(drawn: Easel) -> None:
    drawn.page.evaluate(
        """() => {
          window.told = [];
          const status = document.querySelector("#status");
          new MutationObserver(() => window.told.push(status.textContent)).observe(status, {childList: true});
        }"""
    )
    drawn.page.click("#draw")
    drawn.until(lambda: drawn.done() == 2)
    drawn.until(lambda: drawn.page.evaluate("window.told.at(-1)") == "Done.")
    assert drawn.page.evaluate("window.told") == ["Drawing.", "Half done.", "Done."]


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which looks for what keeps people from using a page."""
    return (package("axe-core", AXE) / "axe.min.js").read_text()


def found_by(axe: str, page: Page) -> list[str]:
    """What axe-core has to say against a page as it is."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{each['id']}: {node['html'][:120]} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_from_using_it(easels: Callable[..., Easel], apple: str, axe: str, scheme: str) -> None:
    page = easels(remembered={"session": apple}, color_scheme=scheme).page
    assert found_by(axe, page) == []
    page.click("#tab-history")
    assert found_by(axe, page) == []
    for button, dialog in (("#keys-open", "#keys"), ("#canvases-open", "#canvases")):
        page.click(button)
        expect(page.locator(dialog)).to_be_visible()
        page.wait_for_timeout(100)
        assert found_by(axe, page) == []
        page.keyboard.press("Escape")


def test_a_class_comes_in_by_a_token_and_under_a_filter(easels: Callable[..., Easel], classroom: str) -> None:
    address, token = classroom.split("#token=")
    easel = easels(address, f"#token={token}")
    page = easel.page
    assert page.url == address
    assert "token" not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    expect(page.locator("#filters")).to_contain_text("watchful")
    easel.draw()
    marks = page.evaluate("performance.getEntriesByName('muse-step').length")
    assert marks > 3
    assert easel.done() == 1 and easel.image().std() > 30
    page.fill("#prompt", "a dragon, noto style")
    page.click("#draw")
    expect(page.locator(".notice.wrong")).to_contain_text("no dragons in this class")
    assert easel.done() == 1
    easel.problems[:] = [each for each in easel.problems if "400" not in each]  # the browser tells each refusal


def test_under_a_filter_no_picture_is_shown_before_it_is_done(easels: Callable[..., Easel], classroom: str) -> None:
    easel = easels(classroom, f"#{classroom.split('#')[1]}")
    easel.page.evaluate(
        """() => {
          window.images = [];
          const parse = JSON.parse;
          JSON.parse = text => {
            const data = parse(text);
            if (data?.stage) window.images.push(data.image);
            return data;
          };
        }"""
    )
    easel.draw()
    images = easel.page.evaluate("window.images")
    assert len(images) > 3 and set(images) == {None}
    expect(easel.page.locator("#filters")).to_contain_text("pictures are shown when they are done")


def test_who_has_no_token_is_asked_for_it(easels: Callable[..., Easel], classroom: str) -> None:
    address, token = classroom.split("#token=")
    easel = easels(address, ready=False)
    easel.page.goto(address)
    expect(easel.page.locator("#token")).to_be_visible()
    easel.page.fill("#token-text", "a-guess-that-is-wrong")
    easel.page.click("#token-form button")
    expect(easel.page.locator("#token-problem")).not_to_be_empty()
    easel.page.fill("#token-text", token)
    easel.page.click("#token-form button")
    easel.ready()
    easel.problems[:] = [each for each in easel.problems if "401" not in each]  # the browser tells each refusal
