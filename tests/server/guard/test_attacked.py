"""A whole studio, asked for what no client asks for: it says no in few words, tells nothing of itself, and lives on."""

from __future__ import annotations

import http.client
import json
import logging
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from serving import until
from small_studio import Studio, small_studio

PNG, JSON, FILE = "image/png", "application/json", "application/octet-stream"
OURS = (b"Traceback", b"/tmp", b"/root", b"/home", b"site-packages", b".py")
"""Words that would tell where this machine has its things."""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with small_studio(tmp_path_factory.mktemp("attacked"), a1111=True) as running:
        yield running


@pytest.fixture(scope="module")
def canvas(studio: Studio) -> str:
    """The path of a canvas."""
    made = asked(studio, "POST", "/api/sessions", b"{}")[1]
    return f"/api/sessions/{json.loads(made)['id']}"


def asked(studio: Studio, method: str, path: str, body: bytes | None = None, kind: str = JSON) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=60)
    try:
        connection.request(method, path, body, {} if body is None else {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def piece(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, more: bytes = b"") -> bytes:
    """A black picture's file of a few bytes; `more`: pieces of it."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    lines = zlib.compress((b"\0" * (1 + (width + 7) // 8)) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + piece(b"IHDR", head) + more + piece(b"IDAT", lines) + piece(b"IEND", b"")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/page/../server.py", 404),
        ("/page/%2e%2e/task.py", 404),
        ("/page/..%2ftask.py", 404),
        ("/page/..%5ctask.py", 404),
        ("/page//etc/passwd", 404),
        ("//etc/passwd", 404),
        ("/page/%00", 404),
        ("/page/app.js%00", 404),
        ("/page/" + "../" * 200 + "etc/passwd", 404),
        ("/page/" + "a" * 5000, 404),
        ("/api/sessions/..%2f..%2fx", 404),
        ("/api/sessions/%2e%2e", 404),
        ("/api/sessions/" + "A" * 22, 404),
        ("/api/gallery/..%2f..%2fx", 404),
        ("/api/gallery?limit=1e9", 400),
        ("/api/gallery?words=%ff%00%ed%a0%80", 200),
        ("/api/gallery?before=../../x", 200),
        ("/api/sessions?limit=%D9%A3", 400),
        ("/api/parts?kind=../x", 400),
        ("/v1/models/%2e%2e", 404),
        ("/favicon.ico", 404),
        ("/api/queue?" + "a=b&" * 2000, 200),
        ("/api/queue?" + "a=b&" * 20000, 431),
    ],
)
def test_paths(studio: Studio, path: str, status: int) -> None:
    found, said = asked(studio, "GET", path)
    assert found == status
    assert not any(word in said for word in OURS)


BODIES = {
    "deep": b"[" * 100_000,
    "deep tables": b'{"a":' * 100_000,
    "nan": b'{"do": "generate", "prompt": NaN}',
    "infinite": b'{"do": "extend", "right": 1e999}',
    "endless number": b'{"do": "go", "to": ' + b"9" * 40_000 + b"}",
    "half a pair": b'{"do": "generate", "prompt": "\\ud800"}',
    "no UTF-8": b'{"do": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "spaces": b"  ",
    "wide": b"{" + b",".join(b'"%d":1' % number for number in range(50_000)) + b"}",
    "prototype": b'{"__proto__": 1, "do": "undo"}',
    "method": b'{"do": "__init__"}',
    "file": b'{"do": "save", "path": "/etc/passwd"}',
    "region": b'{"do": "erase", "region": "/etc/passwd"}',
    "place": b'{"do": "place", "picture": "/etc/passwd"}',
    "part": b'{"do": "generate", "prompt": "x", "settings": {"base": {"sampler": {"use": "os:system"}}}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", ["actions", "/api/check", "/api/curve", "/api/written", "/v1/images/generations"])
def test_bodies(studio: Studio, canvas: str, path: str, body: bytes) -> None:
    found, said = asked(studio, "POST", f"{canvas}/{path}" if path == "actions" else path, body)
    assert found in (400, 404)
    assert set(json.loads(said)["error"]) == {"message", "type", "param", "code"}
    assert len(said) < 1000
    assert not any(word in said for word in OURS)


@pytest.mark.parametrize("path", ["actions", "/api/check", "/v1/images/generations"])
def test_a_table_that_would_hold_up_all_others_is_not_read(studio: Studio, canvas: str, path: str) -> None:
    body = b'{"prompt": [' + b"[]," * 700_000 + b"1]}"
    found, _ = asked(studio, "POST", f"{canvas}/{path}" if path == "actions" else path, body)
    assert found == 413


def test_a_picture_in_a_million_pieces_is_not_read(studio: Studio) -> None:
    text = piece(b"tEXt", b"a\0b")
    assert asked(studio, "POST", "/api/pictures", png(16, 16, text * 10_000), PNG)[0] == 201
    found, said = asked(studio, "POST", "/api/pictures", png(16, 16, text * 1_000_000), PNG)
    assert (found, b"pieces" in said) == (400, True)


@pytest.mark.parametrize(
    "more",
    [
        b"",
        piece(b"tEXt", b"a\0b")[:-1],
        struct.pack(">I", 2**32 - 1) + b"tEXt",
        struct.pack(">I", 0) * 100_000,
    ],
)
def test_a_file_that_is_cut_off_is_no_picture(studio: Studio, more: bytes) -> None:
    found, said = asked(studio, "POST", "/api/pictures", png(16, 16)[:33] + more, PNG)
    assert found == 400
    assert not any(word in said for word in OURS)


@pytest.mark.parametrize(("width", "height"), [(10**6, 1), (1, 10**6), (4096, 4096)])
def test_shapes_that_no_picture_has(studio: Studio, canvas: str, width: int, height: int) -> None:
    found, said = asked(studio, "POST", "/api/pictures", png(width, height), PNG)
    assert found == 201
    for more in ({}, {"at": [0, 0], "scale": 1.0}, {"at": [8191, -8191], "scale": 100}, {"at": [0, 0], "scale": 1e-9}):
        action = json.dumps({"do": "place", "picture": json.loads(said)["picture"], **more}).encode()
        assert asked(studio, "POST", f"{canvas}/actions", action)[0] in (200, 400)


def test_a_bomb_is_not_unpacked(studio: Studio) -> None:
    assert asked(studio, "POST", "/api/pictures", png(20_000, 20_000), PNG)[0] == 400


HEADS: dict[str, Any] = {
    "huge": {"0.codes.base": {"dtype": "I64", "shape": [10**9, 10**9], "data_offsets": [0, 0]}},
    "negative": {"0.codes.base": {"dtype": "I64", "shape": [-1], "data_offsets": [0, 8]}},
    "a list": [],
    "empty": {},
    "other": {"__metadata__": {"muse_canvas": "{}"}},
    "a file": {"__metadata__": {"muse_canvas": '"/etc/passwd"'}},
    "deep": {"__metadata__": {"muse_canvas": "[" * 20_000}},
    "endless number": {"__metadata__": {"muse_canvas": "9" * 5000}},
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_canvas_files_of_strangers(studio: Studio, head: Any) -> None:
    text = json.dumps(head).encode()
    found, said = asked(studio, "POST", "/api/sessions/file", struct.pack("<Q", len(text)) + text + b"\0" * 8, FILE)
    assert found == 400
    assert not any(word in said for word in OURS)


@pytest.mark.parametrize("length", [0, 2**24 + 1, 2**63])
def test_canvas_files_whose_head_has_no_end(studio: Studio, length: int) -> None:
    assert asked(studio, "POST", "/api/sessions/file", struct.pack("<Q", length) + b"{}", FILE)[0] == 400


@pytest.mark.parametrize("number", ["-1", "9" * 21, "1e3", "abc"])
def test_numbers_that_no_event_has(studio: Studio, canvas: str, number: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=60)
    connection.request("GET", f"{canvas}/events", headers={"Last-Event-ID": number})
    assert connection.getresponse().status == 400
    connection.close()


def test_head_of_a_stream_leaves_no_listener(studio: Studio, canvas: str) -> None:
    for _ in range(20):
        assert asked(studio, "HEAD", f"{canvas}/events")[0] == 200
    assert until(lambda: not any(session.events.listeners for session in studio.desk._rooms))


def test_no_log_has_a_prompt(studio: Studio, canvas: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    words = "nobody's business"
    for path, more in [
        (f"{canvas}/actions", {"do": "generate"}),
        ("/v1/images/generations", {}),
        ("/sdapi/v1/txt2img", {}),
    ]:
        for count in (1, 1000):  # what is done, and what is refused
            body = json.dumps({"prompt": words, **more, "count": count, "n": count, "batch_size": count}).encode()
            asked(studio, "POST", path, body)
    assert asked(studio, "GET", f"/api/gallery?words={words.replace(' ', '%20')}")[0] == 200
    assert until(lambda: studio.desk.engine.queue()["now"] is None)
    assert "business" not in caplog.text


def test_after_all_this_it_draws(studio: Studio) -> None:
    found, said = asked(studio, "POST", "/v1/images/generations", b'{"prompt": "a kite"}')
    assert (found, len(json.loads(said)["data"])) == (200, 1)
    assert not [answer for answer in studio.answers if answer.status >= 500]
