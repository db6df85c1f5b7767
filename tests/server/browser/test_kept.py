"""What comes in and what stays: pictures, canvas files, the gallery; a reload, two tabs, a stream that breaks."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from easel import Easel
from PIL import Image
from playwright.sync_api import Route, expect

pytestmark = pytest.mark.slow  # a real browser, or the embedded model: minutes of a default run

DROP = """([text, name, type, how]) => {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, {type}));
  const event = how === "paste"
    ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
    : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}"""


def give(easel: Easel, content: bytes, how: str = "drop", name: str = "picture.png", kind: str = "image/png") -> None:
    """Drop or paste a file."""
    easel.page.evaluate(DROP, [base64.b64encode(content).decode(), name, kind, how])


def plain(colour: str = "teal") -> bytes:
    """A PNG that says nothing."""
    file = io.BytesIO()
    Image.new("RGB", (90, 60), colour).save(file, "PNG")
    return file.getvalue()


def test_a_dropped_picture_gives_its_words_and_seed(drawn: Easel, easels: Callable[..., Easel], shots: Path) -> None:
    content = drawn.page.request.get(f"{drawn.address}api/sessions/{drawn.session}/image").body()
    easel = easels()
    give(easel, content)
    dialog = easel.page.locator("#picture")
    expect(dialog).to_contain_text("a red apple, noto style")
    easel.page.screenshot(path=shots / "dropped.png")
    dialog.get_by_role("button", name=re.compile("Take its words")).click()
    expect(easel.page.locator("#prompt")).to_have_value("a red apple, noto style")
    expect(easel.page.locator("#seed")).to_have_value("7")


def test_a_pasted_picture_is_gone_on_from(easel: Easel) -> None:
    before = easel.session
    give(easel, plain(), "paste")
    expect(easel.page.locator("#picture")).to_contain_text("does not say how it was drawn")
    easel.page.get_by_role("button", name="Go on from it").click()
    easel.until(lambda: easel.session != before and easel.cells("erased") == set())
    assert np.abs(easel.image().mean((0, 1)) - [0, 128, 128]).max() < 40


def test_what_is_no_picture_is_refused_in_words(easel: Easel) -> None:
    give(easel, b"\x89PNG\r\n\x1a\n no more of it")
    expect(easel.page.locator(".notice.wrong")).to_have_count(1)
    assert [each for each in easel.problems if "400" not in each] == []
    easel.problems.clear()  # the browser tells each refusal


def test_a_canvas_file_is_saved_and_opened(drawn: Easel, tmp_path: Path) -> None:
    page = drawn.page
    before, image = drawn.state(), drawn.image()
    page.click("#canvases-open")
    with page.expect_download() as download:
        page.click("#canvas-save")
    download.value.save_as(tmp_path / "canvas.safetensors")
    page.click("#canvas-new")
    drawn.until(lambda: drawn.done() == 0)
    page.click("#canvases-open")
    page.set_input_files("#canvas-file", tmp_path / "canvas.safetensors")
    drawn.until(lambda: drawn.done() == 1)
    assert drawn.state()["history"][0]["did"] == before["history"][0]["did"]
    assert np.array_equal(drawn.image(), image)


def test_the_gallery_is_searched_and_tidied(easels: Callable[..., Easel], apple: str) -> None:
    easel = easels(remembered={"settings": {"base": {"sampler": {"steps": 2}}, "superres": {"sampler": {"steps": 1}}}})
    easel.draw("a very blue teapot", seed=3)
    thumbs = easel.page.locator(".thumb")
    expect(thumbs.first).to_have_attribute("aria-label", "a very blue teapot")
    easel.page.fill("#words", "blue teapot")
    expect(thumbs).to_have_count(1)
    thumbs.first.click()
    easel.page.get_by_role("button", name="Throw away").click()
    expect(thumbs).to_have_count(0)
    expect(easel.page.locator("#gallery-empty")).to_contain_text("blue teapot")


def test_words_are_never_markup(easels: Callable[..., Easel]) -> None:
    easel = easels(remembered={"settings": {"base": {"sampler": {"steps": 2}}, "superres": {"sampler": {"steps": 1}}}})
    words = "<img src=x onerror=document.title='gone'>"
    easel.draw(words)
    easel.page.click("#tab-history")
    expect(easel.page.locator(".moment").first).to_contain_text(words)
    assert easel.page.title() == "muse studio"


def test_a_reload_is_back_where_it_was(drawn: Easel) -> None:
    page = drawn.page
    drawn.stroke((1, 1), (1, 2))
    drawn.freeze_chosen()
    page.fill("#prompt", "a green pear")
    page.fill("#negative", "brown")
    page.fill("[id='base.sampler.steps']", "9")
    page.keyboard.press("Tab")
    before = drawn.session
    page.reload()
    drawn.ready()
    assert drawn.session == before
    assert [page.input_value(each) for each in ("#prompt", "#negative")] == ["a green pear", "brown"]
    expect(page.locator("[id='base.sampler.steps']")).to_have_value("9")
    page.click("#undo")
    drawn.until(lambda: drawn.done() == 1)
    page.click("#redo")
    drawn.until(lambda: drawn.cells() == {(1, 1), (1, 2)})


def test_two_tabs_show_one_canvas(drawn: Easel) -> None:
    other = Easel(drawn.page.context.new_page(), drawn.address).open()
    assert other.session == drawn.session
    drawn.page.click("#tab-history")
    other.page.click("[data-do=freeze]")
    expect(drawn.page.locator(".moment")).to_have_count(3)
    drawn.page.bring_to_front()
    drawn.page.fill("#seed", "9")
    drawn.page.click("#undo")
    drawn.until(lambda: drawn.done() == 1)
    drawn.page.click("#draw")
    expect(other.page.locator("#queue")).to_have_text("drawing")
    drawn.ended()
    expect(other.page.locator("#steps-told")).to_have_text("all steps")
    assert other.problems == []


def test_a_cut_stream_goes_on_without_an_event_twice(drawn: Easel) -> None:
    page = drawn.page
    page.evaluate(
        """() => {
          window.told = [];
          const decode = TextDecoderStream.prototype, readable = Object.getOwnPropertyDescriptor(decode, "readable");
          Object.defineProperty(decode, "readable", { get() {
            return readable.get.call(this).pipeThrough(new TransformStream({ transform(text, on) {
              window.told.push(...(text.match(/^id: \\d+/gm) ?? []));
              on.enqueue(text);
            } }));
          } });
        }"""
    )
    asked: list[str | None] = []
    refused: list[str] = []

    def again(route: Route) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        if len(refused) < 2:
            refused.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    page.route("**/events", again)
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"

    def freeze(x: int) -> None:
        drawn.page.request.post(
            f"{drawn.address}api/sessions/{drawn.session}/actions",
            data=json.dumps({"do": "freeze", "region": {"boxes": [[x, 0, 16, 16]]}}),
            headers={"Content-Type": "application/json"},
        )

    page.click("#tab-history")
    freeze(0)
    expect(page.locator(".moment")).to_have_count(3)  # so that there is a last event to go on from
    page.evaluate(hide, True)  # which closes the stream
    freeze(16)
    page.wait_for_timeout(200)
    assert asked == []
    expect(page.locator(".moment")).to_have_count(3)
    page.evaluate(hide, False)
    expect(page.locator("#queue")).to_have_text("not connected, trying again")
    expect(page.locator(".moment")).to_have_count(4)
    assert len(asked) == 3 and len(set(asked)) == 1 and (asked[0] or "").isdigit()
    page.fill("#seed", "5")
    page.click("#draw")
    drawn.until(lambda: drawn.done() == 4)
    numbers = [int(each.split()[1]) for each in page.evaluate("window.told")]
    assert len(numbers) > 5 and numbers == sorted(set(numbers))
    drawn.problems[:] = [each for each in drawn.problems if "ERR_FAILED" not in each]  # what was cut on purpose
