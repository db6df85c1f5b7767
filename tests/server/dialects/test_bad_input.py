"""Whatever a client sends, it is told what is wrong: never an error of ours, and nothing is fetched or unpacked."""

from __future__ import annotations

import base64
import functools
import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_desk import FakeDesk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from spoken import mask, png, speaking
from starlette.testclient import TestClient

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
KNOWN = ("prompt", "n", "size", "seed", "settings", "stream", "quality", "output_format", "user", "model", "editor")
A1111 = (
    "prompt",
    "seed",
    "steps",
    "cfg_scale",
    "width",
    "height",
    "n_iter",
    "mask",
    "init_images",
    "override_settings",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["16x16", "jpeg"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
"""Any value, with what JSON has no word for, and Python's writer writes: NaN and endless numbers."""
MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@functools.cache
def huge() -> bytes:
    """A PNG of 48 kB that unpacks to 20,000 x 20,000 pixels of one bit."""
    side = 20_000
    rows = zlib.compress(bytes(side // 8 + 1) * side, 9)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    written = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def tiff() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "TIFF")
    return file.getvalue()


HOSTILE = {
    "huge": huge,
    "tiff": tiff,
    "svg": lambda: SVG,
    "nothing": lambda: b"",
    "cut": lambda: png()[:40],
    "text": lambda: b"/etc/passwd",
}


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def inside(desk: FakeDesk) -> Iterator[TestClient]:
    """The dialects without a network."""
    with TestClient(speaking(desk), raise_server_exceptions=False) as client:
        yield client


def refused(answer: Any, param: str | None = None) -> str:
    """What a refusal says; AssertionError where the answer is none, or names another field."""
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    if param is not None:
        assert error["param"] == param
    return error["message"]


def posted(client: TestClient, path: str, content: bytes | str, kind: str = "application/json") -> Any:
    return client.post(path, content=content, headers={"Content-Type": kind})


def test_the_huge_picture_is_small() -> None:
    assert len(huge()) < 60_000


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", ["image", "mask"])
def test_a_hostile_file_is_refused(inside: TestClient, desk: FakeDesk, name: str, field: str) -> None:
    files = {"image": ("a.png", png()), field: ("x.png", HOSTILE[name]())}
    said = refused(inside.post("/v1/images/edits", data={"prompt": "a hat"}, files=files), field)
    assert desk.asked == [] and "/" not in said.replace("PNG/", "")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", ["init_images", "mask"])
def test_a_hostile_picture_in_base64_is_refused(inside: TestClient, desk: FakeDesk, name: str, field: str) -> None:
    good, bad = (base64.b64encode(each).decode() for each in (png(), HOSTILE[name]()))
    body = {"prompt": "", "init_images": [bad if field == "init_images" else good]}
    body |= {"mask": bad} if field == "mask" else {}
    refused(inside.post("/sdapi/v1/img2img", json=body), field)
    assert desk.asked == []


@pytest.mark.parametrize(
    "address",
    ["http://169.254.169.254/latest", "https://example.org/a.png", "file:///etc/passwd", "/etc/passwd", "data:,x"],
)
def test_no_address_is_fetched(inside: TestClient, desk: FakeDesk, address: str) -> None:
    said = refused(inside.post("/sdapi/v1/img2img", json={"init_images": [address]}), "init_images")
    refused(inside.post("/sdapi/v1/png-info", json={"image": address}), "image")
    assert "no address is fetched" in said and desk.asked == []


@pytest.mark.parametrize("name", ["script_name", "alwayson_scripts"])
def test_no_script_is_run(inside: TestClient, name: str) -> None:
    refused(inside.post("/sdapi/v1/txt2img", json={name: {"x": {"args": []}}}), name)


@pytest.mark.parametrize(
    "made, said",
    [
        (lambda: mask(64, 64), "one size"),
        (lambda: png(), "nowhere transparent"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(inside: TestClient, made: Any, said: str) -> None:
    files = {"image": ("a.png", png()), "mask": ("m.png", made())}
    assert said in refused(inside.post("/v1/images/edits", data={"prompt": "a hat"}, files=files), "mask")


def test_nearly_transparent_is_kept(inside: TestClient, desk: FakeDesk) -> None:
    values = np.full((128, 128, 4), 255, np.uint8)
    values[:8, :8, 3], values[8:16, :8, 3] = 0, 1
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    files = {"image": ("a.png", png()), "mask": ("m.png", file.getvalue())}
    assert inside.post("/v1/images/edits", data={"prompt": "a hat"}, files=files).status_code == 200
    assert desk.drawing.region is not None and desk.drawing.region.sum() == 64


@pytest.mark.parametrize(
    "files, data, param",
    [
        ({}, {"prompt": "x"}, "image"),
        ({}, {"prompt": "x", "image": "data:image/png;base64,AAAA"}, "image"),
        ({"image": ("a.png", png())}, {}, "prompt"),
        ({"image": ("a.png", png()), "markup": ("m.png", png())}, {"prompt": "x"}, "markup"),
        ({"prompt": ("a.txt", b"x"), "image": ("a.png", png())}, {}, "prompt"),
        ({"image": ("a.png", png())}, {"prompt": "x", "n": "many"}, "n"),
        ({"image": ("a.png", png())}, {"prompt": "x", "settings": "{"}, "settings"),
        ({"image": ("a.png", png())}, {"prompt": "x", "settings": "{}", "settings[base][steps]": "3"}, "settings"),
        ({"image": ("a.png", png())}, {"prompt": "x", "settings[a][]": "3", "settings[a][b]": "3"}, "settings"),
    ],
)
def test_a_form_s_mistake_names_its_field(inside: TestClient, files: Any, data: Any, param: str) -> None:
    answer = inside.post("/v1/images/edits", data=data, files=files or {"other": ("a", b"")})
    refused(answer, param)


def test_a_form_has_bounds(inside: TestClient) -> None:
    many = [("image[]", (f"{index}.png", png(8, 8))) for index in range(17)]
    refused(inside.post("/v1/images/edits", data={"prompt": "x"}, files=many), "image")
    refused(inside.post("/v1/images/edits", data={"prompt": "x"}, files=[*many, many[0]]))
    fields = {f"field{index}": "x" for index in range(31)}
    refused(inside.post("/v1/images/edits", data=fields, files=many[:1]))


@pytest.mark.parametrize("path", ["/v1/images/generations", "/sdapi/v1/txt2img"])
@pytest.mark.parametrize(
    "body", ["", "{", "[]", "7", '"x"', "null", "[" * 100_000, '{"seed": 1e999}', '{"seed": NaN}', "9" * 5000, "\xff"]
)
def test_what_is_no_object_of_json_is_refused(inside: TestClient, path: str, body: str) -> None:
    refused(posted(inside, path, body.encode("latin-1")))


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_content_type_is_refused(inside: TestClient, kind: str) -> None:
    assert "content type" in refused(posted(inside, "/v1/images/generations", "{}", kind))
    assert posted(inside, "/v1/images/generations", "{}", kind).json()["error"]["code"] == "unsupported_content_type"


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        "multipart/form-data; boundary=x; charset=undefined",
        "multipart/form-data; boundary=",
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"--x\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\xff\r\n--x--']
)
def test_a_broken_form_is_refused(inside: TestClient, kind: str, body: bytes) -> None:
    refused(posted(inside, "/v1/images/edits", body, kind))


@MANY
@given(st.dictionaries(st.sampled_from(KNOWN), JSON), st.booleans())
def test_any_json_is_drawn_or_refused(inside: TestClient, body: dict[str, Any], worded: bool) -> None:
    answer = posted(inside, "/v1/images/generations", json.dumps(body | ({"prompt": "a fox"} if worded else {})))
    assert answer.status_code == 200 or refused(answer)


@MANY
@given(st.dictionaries(st.sampled_from(A1111), JSON), st.sampled_from(["txt2img", "img2img", "options", "png-info"]))
def test_any_json_of_a_script_is_drawn_or_refused(inside: TestClient, body: dict[str, Any], path: str) -> None:
    answer = posted(inside, f"/sdapi/v1/{path}", json.dumps(body))
    assert answer.status_code == 200 or refused(answer)


NAMES = st.sampled_from(
    [*KNOWN, "settings[base][sampler][steps]", "settings[]", "n[]", "image", "image[]", "mask", "[x]"]
)


@MANY
@given(
    st.lists(st.tuples(NAMES | st.text(max_size=12), st.text(max_size=12)), max_size=6),
    st.lists(
        st.tuples(st.sampled_from(["image", "image[]", "mask", "prompt", "x"]), st.binary(max_size=40)), max_size=3
    ),
)
def test_any_form_is_drawn_or_refused(inside: TestClient, fields: list[Any], files: list[Any]) -> None:
    parts = [(name, (None, text.encode("utf-8", "replace"))) for name, text in fields]
    sent = [*parts, ("image", ("a.png", png(8, 8))), *((name, ("b.png", content)) for name, content in files)]
    answer = inside.post("/v1/images/edits", files=sent)
    assert answer.status_code == 200 or refused(answer)
