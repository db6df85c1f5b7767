"""The real `openai` client against a real server: what it sends is understood, and what it gets is of its types."""

from __future__ import annotations

import base64
import io
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fake_desk import SIDE, TOKENS, FakeDesk
from muse_server.dialects import streams
from muse_server.refusals import Full
from PIL import Image
from serving import until
from spoken import NAME, mask, png

from muse_studio.errors import Refused, UserError

if TYPE_CHECKING:
    from openai import OpenAI


def drawn(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    image = Image.open(io.BytesIO(base64.b64decode(b64_json)))
    image.load()
    return image


def test_it_lists_the_one_model(client: OpenAI, openai: ModuleType) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == (NAME, "model", "muse_studio")
    assert client.models.retrieve(NAME) == model
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-image-1")
    assert error.value.code == "model_not_found"


def test_it_generates(client: OpenAI, desk: FakeDesk) -> None:
    more = {"seed": 7, "negative_prompt": "brown", "settings": {"base": {"sampler": {"use": "halton", "steps": 24}}}}
    answer = client.images.generate(prompt="a red apple", n=2, response_format="b64_json", extra_body=more)
    asked = desk.drawing
    assert (asked.prompt, asked.negative, asked.seed, asked.count) == ("a red apple", "brown", 7, 2)
    assert asked.settings == more["settings"] and asked.size is None and asked.partials == 0
    assert answer.data is not None and len(answer.data) == 2
    assert (answer.size, answer.output_format, answer.background) == (f"{SIDE}x{SIDE}", "png", "opaque")
    assert answer.usage is not None and answer.usage.output_tokens == answer.usage.total_tokens == 2 * TOKENS
    first = drawn(answer.data[0].b64_json)
    assert first.size == (SIDE, SIDE)
    assert first.info["Software"] == "muse_studio" and "seed: 7" in first.info["muse_recipe"]


@pytest.mark.parametrize("size, wanted", [("auto", None), ("256x256", (256, 256)), ("1792x1024", (1792, 1024))])
def test_a_size_is_asked_for(client: OpenAI, desk: FakeDesk, size: Any, wanted: Any) -> None:
    answer = client.images.generate(prompt="a fox", size=size)
    assert desk.drawing.size == wanted and answer.size == ("128x128" if wanted is None else size)


@pytest.mark.parametrize("kind, pillow", [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_every_format_says_where_it_comes_from(client: OpenAI, kind: Any, pillow: str) -> None:
    answer = client.images.generate(prompt="a fox", output_format=kind, output_compression=80)
    assert answer.data is not None and answer.output_format == kind
    image = drawn(answer.data[0].b64_json)
    packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
    assert image.format == pillow and b"trainedAlgorithmicMedia" in packet


def test_it_streams_partial_pictures(client: OpenAI, openai: ModuleType, desk: FakeDesk) -> None:
    with client.images.generate(prompt="a fox", stream=True, partial_images=2, n=2, quality="high") as stream:
        events = list(stream)
    partial, last = openai.types.ImageGenPartialImageEvent, openai.types.ImageGenCompletedEvent
    assert [type(each) for each in events] == [partial, partial, last] * 2
    assert [each.partial_image_index for each in events if each.type == "image_generation.partial_image"] == [0, 1] * 2
    ended = events[-1]
    assert isinstance(ended, last) and ended.usage.output_tokens == TOKENS
    assert (ended.size, ended.quality, ended.background, ended.output_format) == ("128x128", "high", "opaque", "png")
    assert drawn(ended.b64_json).size == (SIDE, SIDE) and desk.cancelled == 0


def test_it_edits_one_picture(client: OpenAI, desk: FakeDesk) -> None:
    answer = client.images.edit(image=png(64, 32, "red"), prompt="a pear", extra_body={"editor": {"use": "mask-free"}})
    asked = desk.drawing
    assert asked.picture is not None and asked.picture.size == (64, 32) and asked.picture.mode == "RGB"
    assert asked.region is None and asked.editor == {"use": "mask-free"} and asked.prompt == "a pear"
    assert answer.data is not None and len(answer.data) == 1


def test_it_edits_the_first_of_several(client: OpenAI, desk: FakeDesk) -> None:
    files = [("a.png", png(colour="red")), ("b.png", png(colour="blue"))]
    client.images.edit(image=files, prompt="a pear", n=2, extra_body={"settings": {"base": {"sampler": {"steps": 3}}}})
    asked = desk.drawing
    assert asked.picture is not None and asked.picture.getpixel((0, 0)) == (255, 0, 0)
    assert asked.count == 2 and asked.settings == {"base": {"sampler": {"steps": 3}}}


def test_it_edits_where_the_mask_is_transparent(client: OpenAI, desk: FakeDesk) -> None:
    more = {"seed": 3, "settings": '{"base": {"sampler": {"steps": 3}}}'}
    client.images.edit(image=png(), mask=mask(), prompt="a hat", extra_body=more)
    region = desk.drawing.region
    wanted = np.zeros((128, 128), bool)
    wanted[:64, :64] = True
    assert region is not None and region.dtype == bool and (region == wanted).all()
    assert desk.drawing.seed == 3 and desk.drawing.settings == {"base": {"sampler": {"steps": 3}}}


def test_it_streams_an_edit(client: OpenAI, openai: ModuleType) -> None:
    with client.images.edit(image=png(), prompt="a pear", stream=True, partial_images=1) as stream:
        events = list(stream)
    assert [each.type for each in events] == ["image_edit.partial_image", "image_edit.completed"]
    assert isinstance(events[-1], openai.types.ImageEditCompletedEvent)


def test_it_makes_variations(client: OpenAI, desk: FakeDesk) -> None:
    with pytest.warns(DeprecationWarning):
        answer = client.images.create_variation(image=png(), n=2, size="256x256")
    assert desk.drawing.editor == {"use": "variations"} and desk.drawing.count == 2 and desk.drawing.prompt == ""
    assert answer.size == "256x256"


@pytest.mark.parametrize(
    "sent, param, code",
    [
        ({"prompt": ""}, "prompt", "missing_required_parameter"),
        ({"prompt": "a" * 32_001}, "prompt", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"size": "8x8"}, "size", "invalid_value"),
        ({"size": "5000x16"}, "size", "invalid_value"),
        ({"size": "large"}, "size", "invalid_value"),
        ({"response_format": "url"}, "response_format", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"output_compression": 101}, "output_compression", "invalid_value"),
        ({"partial_images": 4, "stream": True}, "partial_images", "invalid_value"),
        ({"extra_body": {"seed": -1}}, "seed", "invalid_value"),
        ({"extra_body": {"seed": 2**64}}, "seed", "invalid_value"),
        ({"extra_body": {"settings": [1]}}, "settings", "invalid_value"),
        ({"extra_body": {"prompt": 7}}, "prompt", "invalid_value"),
    ],
)
def test_a_mistake_names_its_field(
    client: OpenAI, openai: ModuleType, desk: FakeDesk, sent: Any, param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.images.generate(**{"prompt": "a fox", **sent})
    assert (error.value.param, error.value.code, error.value.type) == (param, code, "invalid_request_error")
    assert desk.asked == []


def test_settings_may_name_no_place(client: OpenAI, openai: ModuleType, desk: FakeDesk) -> None:
    for text in ("/etc/passwd", "http://example.org/x", "~root", "..\\x"):
        with pytest.raises(openai.BadRequestError) as error:
            client.images.generate(prompt="a fox", extra_body={"settings": {"base": {"sampler": {"use": text}}}})
        assert (error.value.param or "").startswith("settings") and desk.asked == []


def test_a_filter_s_refusal_is_a_violation_of_policy(client: OpenAI, openai: ModuleType, desk: FakeDesk) -> None:
    desk.failing = Refused("word-filter refuses this prompt")
    for more in ({}, {"stream": True}):
        with pytest.raises(openai.BadRequestError) as error:
            client.images.generate(prompt="a naked apple", **more)  # type: ignore[call-overload]
        assert error.value.code == "content_policy_violation" and "word-filter" in str(error.value)


def test_too_many_are_told_when_to_come_again(client: OpenAI, openai: ModuleType, desk: FakeDesk) -> None:
    desk.failing = Full("64 pictures wait already; try again later", 7)
    for more in ({}, {"stream": True}):
        with pytest.raises(openai.RateLimitError) as error:
            client.images.generate(prompt="a fox", **more)  # type: ignore[call-overload]
        assert error.value.response.headers["retry-after"] == "7" and error.value.code == "rate_limit_exceeded"


def test_the_client_comes_again_by_itself(client: OpenAI, desk: FakeDesk) -> None:
    desk.failing = Full("wait", 1)
    threading.Timer(0.3, lambda: setattr(desk, "failing", None)).start()
    assert client.with_options(max_retries=2).images.generate(prompt="a fox").data
    assert len(desk.asked) == 2


def test_an_error_that_is_ours_is_not_drawn_again(client: OpenAI, openai: ModuleType, desk: FakeDesk) -> None:
    desk.failing = RuntimeError("a secret")
    with pytest.raises(openai.InternalServerError) as error:
        client.with_options(max_retries=2).images.generate(prompt="a fox")
    assert "secret" not in str(error.value) and len(desk.asked) == 1


@pytest.mark.parametrize(
    "raised, said", [(UserError("no room is left"), "no room is left"), (RuntimeError("x"), "not yours")]
)
def test_an_error_amid_a_stream_is_an_event(
    client: OpenAI, openai: ModuleType, desk: FakeDesk, raised: Exception, said: str
) -> None:
    desk.failing, desk.late = raised, True
    with client.images.generate(prompt="a fox", stream=True, partial_images=1) as stream:
        assert next(iter(stream)).type == "image_generation.partial_image"
        with pytest.raises(openai.APIError, match=said):
            next(iter(stream))


def test_a_timeout_cancels(client: OpenAI, openai: ModuleType, desk: FakeDesk) -> None:
    desk.waiting = True
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).images.generate(prompt="a fox")
    until(lambda: desk.cancelled == 1)


def test_each_of_a_client_s_tries_is_cancelled(client: OpenAI, openai: ModuleType, desk: FakeDesk) -> None:
    desk.waiting = True
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2, max_retries=1).images.edit(image=png(), prompt="a fox")
    until(lambda: desk.cancelled == len(desk.asked) == 2)


@pytest.mark.parametrize("partials", [0, 1])
def test_leaving_a_stream_cancels(
    client: OpenAI, desk: FakeDesk, partials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "EVERY", 0.05)  # the head comes with the first comment
    desk.waiting = True
    with client.images.generate(prompt="a fox", stream=True, partial_images=partials) as stream:
        if partials:
            assert next(iter(stream)).type == "image_generation.partial_image"
        assert desk.cancelled == 0
    until(lambda: desk.cancelled == 1)
