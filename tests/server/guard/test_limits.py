"""How much may be sent, counted as it comes, and how long it may take."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from muse_server.web.limits import HEADERS, Limited
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

US = ("Host", "127.0.0.1:7860")
JSON = ("Content-Type", "application/json")
SMALL: dict[str, Any] = {"json": 100, "pictured": 200, "files": 300, "idle": 0.3, "whole": 0.8}


def kind(name: str) -> list[tuple[str, str]]:
    return [US, ("Content-Type", name)]


@pytest.mark.parametrize(
    ("name", "size", "status"),
    [
        ("application/json", 100, 200),
        ("application/json; charset=utf-8", 101, 413),
        ("APPLICATION/JSON", 101, 413),
        ("image/png", 300, 200),
        ("image/png", 301, 413),
        ("multipart/form-data; boundary=x", 300, 200),
        ("multipart/form-data; boundary=x", 301, 413),
        ("application/octet-stream", 301, 413),
        ("text/plain", 64 * 1024, 200),
        ("text/plain", 64 * 1024 + 1, 413),
    ],
)
@pytest.mark.parametrize("pieces", [1, 7])
def test_a_body_has_the_size_of_its_kind(asks: Any, tiny: Any, name: str, size: int, status: int, pieces: int) -> None:
    step = -(-size // pieces)
    body = [b"x" * min(step, size - at) for at in range(0, size, step)]
    answer = asks(Limited(tiny, **SMALL), "POST", headers=kind(name), body=body)
    assert answer.status == status
    if status == 413:
        assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("path", "size", "status"), [("/sdapi/v1/img2img", 200, 200), ("/sdapi/v1/img2img", 201, 413)])
def test_json_with_pictures_may_be_larger(asks: Any, tiny: Any, path: str, size: int, status: int) -> None:
    assert asks(Limited(tiny, **SMALL), "POST", path, kind("application/json"), b"x" * size).status == status


def test_a_length_that_is_a_lie_changes_nothing(asks: Any, tiny: Any) -> None:
    answer = asks(Limited(tiny, **SMALL), "POST", headers=[US, JSON, ("Content-Length", "5")], body=[b"x" * 60] * 2)
    assert answer.status == 413


@pytest.mark.parametrize("catches", [False, True])
def test_what_the_application_makes_of_it_is_not_sent(asks: Any, catches: bool) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        if not catches:
            return PlainTextResponse(await request.body())
        try:
            await request.body()
        except Exception:
            return PlainTextResponse("an error of its own", 500)
        return PlainTextResponse("taken")

    app = Starlette(routes=[Route("/api/queue", handler, methods=["POST"])])
    answer = asks(Limited(app, **SMALL), "POST", headers=[US, JSON], body=b"x" * 101)
    assert answer.status == 413
    assert "100" in json.loads(answer.body)["error"]["message"] or b"KiB" in answer.body


def test_a_body_that_is_not_read_is_limited_by_time(asks: Any) -> None:
    async def careless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert asks(Limited(careless, **SMALL), "POST", headers=[US, JSON], body=[b"x"] * 1000).status == 404


@pytest.mark.parametrize(("pause", "pieces", "status"), [(0.05, 5, 200), (0.5, 2, 408), (0.1, 20, 408)])
def test_a_body_comes_in_time(tiny: Any, pause: float, pieces: int, status: int) -> None:
    """The second pauses for too long, the third never does but takes too long in all."""
    left = pieces
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        nonlocal left
        await asyncio.sleep(pause)
        left -= 1
        return {"type": "http.request", "body": b"x", "more_body": left > 0}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", b"application/json")]}
    asyncio.run(Limited(tiny, **SMALL)(scope, receive, send))
    assert sent[0]["status"] == status


def test_a_client_that_goes_amid_its_body_is_nobodys_error() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.append((await receive())["type"])
        heard.append((await receive())["type"])
        heard.append((await receive())["type"])

    said = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> dict[str, Any]:
        return said.pop() if said else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(Limited(app, **SMALL)(scope, receive, send))
    assert heard == ["http.request", "http.disconnect", "http.disconnect"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("x", "y")] * HEADERS, 200),
        ([("x", "y")] * (HEADERS + 1), 431),
        ([("x", "y")] * 10_000, 431),
        ([("x", "y" * 40_000)], 431),
    ],
)
def test_a_head_has_so_many_headers(asks: Any, tiny: Any, headers: Any, status: int) -> None:
    assert asks(Limited(tiny), headers=headers).status == status
    assert len(tiny.seen) == (status == 200)


def test_an_address_has_so_many_streams() -> None:
    gone = asyncio.Event()
    ended: list[int] = []

    async def events(request: Request) -> StreamingResponse:
        async def lines() -> Any:
            try:
                yield b"data: 1\n\n"
                await gone.wait()
            finally:
                ended.append(1)

        return StreamingResponse(lines(), media_type="text/event-stream")

    limited = Limited(Starlette(routes=[Route("/events", events)]), streams=2)

    async def stream(address: str) -> int:
        """The status of a stream, which stays open in the background where it is 200."""
        statuses: asyncio.Queue[int] = asyncio.Queue()
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await gone.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.put_nowait(message["status"])

        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": "/events", "raw_path": b"/events",
            "root_path": "", "scheme": "http", "query_string": b"", "headers": [], "client": (address, 1),
            "server": ("127.0.0.1", 7860),
        }  # fmt: skip
        running.append(asyncio.create_task(limited(scope, receive, send)))
        return await statuses.get()

    async def all_of_it() -> None:
        assert [await stream("10.0.0.1") for _ in range(4)] == [200, 200, 429, 429]
        assert [await stream("10.0.0.2") for _ in range(3)] == [200, 200, 429]
        gone.set()
        await asyncio.gather(*running)
        running.clear()
        gone.clear()
        assert await stream("10.0.0.1") == 200  # the place is free again
        gone.set()
        await asyncio.gather(*running)

    running: list[asyncio.Task[None]] = []
    asyncio.run(all_of_it())
    assert len(ended) == 5  # what was refused did not begin
    assert not limited._open
