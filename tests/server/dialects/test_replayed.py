"""What other programs send, as they write it: Open WebUI's and LibreChat's requests are drawn."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import pytest
from fake_desk import FakeDesk
from PIL import Image
from spoken import NAME, png, speaking
from starlette.testclient import TestClient

OPEN_WEBUI = {"model": "dall-e-2", "prompt": "a red apple", "n": 1, "size": "512x512", "response_format": "b64_json"}
OPEN_WEBUI_NEW = {"model": "gpt-image-1", "prompt": "a red apple", "n": 1, "size": "1024x1024"}
LIBRECHAT = {
    "model": "gpt-image-1",
    "prompt": "a red apple",
    "n": 1,
    "quality": "auto",
    "background": "transparent",
    "size": "auto",
    "output_format": "png",
    "output_compression": 100,
    "moderation": "low",
    "user": "65f0c0ffee",
}
OLD_CLIENT = {
    "model": "dall-e-3",
    "prompt": "a red apple",
    "style": "vivid",
    "quality": "hd",
    "size": None,
    "seed": None,
}


def image_of(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    (only,) = answer.json()["data"]
    assert set(only) == {"b64_json"}
    return Image.open(io.BytesIO(base64.b64decode(only["b64_json"])))


@pytest.mark.parametrize("body, size", [(OPEN_WEBUI, 512), (OPEN_WEBUI_NEW, 1024), (LIBRECHAT, 128), (OLD_CLIENT, 128)])
def test_generations(http: httpx.Client, desk: FakeDesk, body: dict[str, Any], size: int) -> None:
    answer = http.post("/v1/images/generations", json=body, headers={"Authorization": "Bearer sk-anything"})
    assert image_of(answer).size == (size, size)
    assert desk.drawing.prompt == "a red apple" and desk.drawing.count == 1 and desk.drawing.seed is None


@pytest.mark.parametrize("name", ["image", "image[]"])
def test_edits_by_forms(http: httpx.Client, desk: FakeDesk, name: str) -> None:
    fields = {"model": "gpt-image-1", "prompt": "a pear", "n": "1", "size": "1024x1024", "response_format": "b64_json"}
    files = [(name, ("a.png", png(colour="red"), "image/png")), (name, ("b.webp", png(), "image/webp"))]
    assert image_of(http.post("/v1/images/edits", data=fields, files=files)).size == (1024, 1024)
    picture = desk.drawing.picture
    assert picture is not None and picture.getpixel((5, 5)) == (255, 0, 0) and desk.drawing.region is None


def test_librechat_s_edit(http: httpx.Client, desk: FakeDesk) -> None:
    fields = {"model": "gpt-image-1", "prompt": "a pear", "quality": "high", "size": "auto", "input_fidelity": "high"}
    answer = http.post("/v1/images/edits", data=fields, files=[("image[]", ("file-1.png", png(), "image/png"))])
    assert image_of(answer).size == (128, 128) and answer.json()["quality"] == "high"


def test_users_wait_each_in_turn(http: httpx.Client, desk: FakeDesk) -> None:
    for user in ("ada", "bob"):
        http.post("/v1/images/generations", json={"prompt": "a fox", "user": user})
    assert [owner for owner, _ in desk.asked] == ["127.0.0.1 ada", "127.0.0.1 bob"]


def test_a_strict_server_draws_with_its_model_alone(desk: FakeDesk) -> None:
    with TestClient(speaking(desk, strict_model=True)) as client:
        told = client.post("/v1/images/generations", json={"prompt": "a fox", "model": "gpt-image-1"})
        assert told.status_code == 404 and told.json()["error"]["code"] == "model_not_found" and desk.asked == []
        assert client.post("/v1/images/generations", json={"prompt": "a fox", "model": NAME}).status_code == 200
        assert client.post("/v1/images/generations", json={"prompt": "a fox"}).status_code == 200
