"""Makes the pictures of docs/studio.md: the page with a drawing, the page on a phone, and an animation of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from easel import Easel
from PIL import Image
from playwright.sync_api import Page, expect

PROMPT, SEED, ANEW = "a fox, blob style", 4, 9
"""Of the first drawing, and of its part that is drawn anew."""
GALLERY = [
    ("a red apple, noto style", 7),
    ("a cat, fluent 3d style", 4),
    ("a sailboat, twemoji style", 2),
    ("a tree, noto style", 1),
    ("a house, noto style", 4),
    ("a pumpkin, noto style", 4),
]
CHOSEN = ((5, 2), (5, 5), (6, 5), (6, 2))
FROZEN = ((0, 0), (0, 7))
"""The ways of the brush."""
WIDTH = 720
"""Pixels of the animation."""
STILL, STEP = 900, 90
"""Milliseconds that its first and last pictures stay, and all between."""

pytestmark = pytest.mark.slow


def frame(page: Page) -> Image.Image:
    """The easel as it is."""
    page.wait_for_timeout(60)
    shot = Image.open(io.BytesIO(page.locator(".easel").screenshot(animations="disabled"))).convert("RGB")
    return shot.resize((WIDTH, round(WIDTH * shot.height / shot.width)), Image.Resampling.LANCZOS)


def steps(page: Page) -> list[Image.Image]:
    """A drawing's steps, one after the other."""
    frames = []
    for number in range(1, int(page.locator("#step").get_attribute("max") or 0) + 1):
        page.locator("#step").fill(str(number))
        expect(page.locator(".cells .full")).to_have_count(number)
        frames.append(frame(page))
    return frames


def test_the_pages_pictures(easels: Callable[..., Easel], shots: Path) -> None:
    easel = easels()
    page = easel.page
    for prompt, seed in GALLERY:
        easel.draw(prompt, seed)
    page.click("#canvases-open")
    page.click("#canvas-new")
    easel.until(lambda: easel.done() == 0)
    easel.draw(PROMPT, SEED)
    page.evaluate("document.activeElement.blur()")
    frames = steps(page)
    for way in (CHOSEN[:2], CHOSEN):
        page.keyboard.press("Escape")
        easel.stroke(*way)
        page.mouse.move(5, 5)
        frames.append(frame(page))
    page.fill("#seed", str(ANEW))
    page.click("[data-do=reroll]")
    easel.until(lambda: easel.done() == 2)
    page.keyboard.press("Escape")
    frames += steps(page)
    times = [STILL if n in (0, len(frames) - 1) else STEP for n in range(len(frames))]
    settings = {"append_images": frames[1:], "duration": times, "loop": 0, "quality": 72, "method": 6}
    frames[0].save(shots / "studio.webp", save_all=True, **settings)

    page.click("#tab-history")
    page.locator(".moment").nth(1).click()  # the first drawing
    easel.until(lambda: easel.done() == 1)
    page.click("#tab-settings")
    page.keyboard.press("f")
    easel.stroke(*FROZEN)
    easel.until(lambda: easel.done() == 2)
    page.keyboard.press("b")
    easel.stroke(*CHOSEN)
    page.click("[data-do=reroll]")
    easel.until(lambda: easel.done() == 3)
    page.mouse.move(5, 5)
    page.wait_for_timeout(800)
    page.screenshot(path=shots / "studio.png", full_page=True)
    session = easel.session

    remembered = {"session": session, "words": {"prompt": PROMPT}}
    phone = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
    small = easels(remembered=remembered, **phone).page
    small.wait_for_timeout(800)
    small.screenshot(path=shots / "studio-phone.png")
    sizes = {path.name: path.stat().st_size for path in shots.glob("studio*")}
    print(f"\n{sizes}")
    assert sum(sizes.values()) < 1.5e6
