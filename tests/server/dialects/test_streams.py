"""A stream while nothing happens, and who may ask at all."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from fake_desk import FakeDesk
from muse_server.dialects import streams
from muse_server.web.connection import configured
from muse_server.web.guard import Guard
from PIL import Image
from serving import serving, until
from spoken import mask, png, speaking

TOKEN = "a-token-of-a-class-room"
STREAMED = {"prompt": "a fox", "stream": True}


def test_a_comment_keeps_a_waiting_stream_open(
    http: httpx.Client, desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "EVERY", 0.02)
    desk.waiting = True
    with http.stream("POST", "/v1/images/generations", json=STREAMED) as answer:
        lines = [line for line, _ in zip(answer.iter_lines(), range(5), strict=False)]
        assert answer.headers["content-type"].startswith("text/event-stream")
    assert set(lines) == {": waiting", ""}
    until(lambda: desk.cancelled == 1)


def test_an_event_is_named_as_its_type(http: httpx.Client) -> None:
    told = http.post("/v1/images/generations", json=STREAMED | {"partial_images": 1}).text
    names = [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]
    assert names == ["image_generation.partial_image", "image_generation.completed"]
    assert told.endswith("\n\n") and "[DONE]" not in told


@pytest.mark.parametrize("stream", ["true", "false"])
def test_no_picture_is_touched_on_the_event_loop(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    looping: list[bool] = []

    def noted(inner: Any) -> Any:
        def outer(*given: Any, **more: Any) -> Any:
            looping.append(asyncio._get_running_loop() is not None)
            return inner(*given, **more)

        return outer

    fields, files = {"prompt": "a hat", "stream": stream, "partial_images": "1"}, {"image": png(), "mask": mask()}
    script = {"init_images": [base64.b64encode(png()).decode()], "mask": base64.b64encode(png()).decode()}
    for place, name in ((Image, "open"), (Image.Image, "save"), (Image.Image, "load"), (Image.Image, "convert")):
        monkeypatch.setattr(place, name, noted(getattr(place, name)))
    assert http.post("/v1/images/edits", data=fields, files=files).status_code == 200
    assert http.post("/sdapi/v1/img2img", json=script).status_code == 200
    assert len(looping) > 10 and not any(looping)


@pytest.fixture
def guarded(desk: FakeDesk) -> Iterator[str]:
    """Where the dialects answer to whom knows the token."""

    def config(port: int):
        return configured(Guard(speaking(desk), host="127.0.0.1", port=port, hosts=(), origins=(), token=TOKEN))

    with serving(config) as port:
        yield f"http://127.0.0.1:{port}"


def test_the_client_s_key_is_the_token(guarded: str, openai: ModuleType) -> None:
    with openai.OpenAI(api_key=TOKEN, base_url=f"{guarded}/v1", max_retries=0) as client:
        assert client.images.generate(prompt="a fox").data
    with openai.OpenAI(api_key="another", base_url=f"{guarded}/v1", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.images.generate(prompt="a fox")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_a_script_s_password_is_the_token(guarded: str) -> None:
    for password, status in ((TOKEN, 200), ("another", 401)):
        answer = httpx.post(f"{guarded}/sdapi/v1/txt2img", json={"prompt": "a fox"}, auth=("anybody", password))
        assert answer.status_code == status
    assert httpx.post(f"{guarded}/sdapi/v1/interrupt", auth=("anybody", TOKEN)).json() == {}
