"""A tiny application that answers all that reaches it, and tells what did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PORT = 7860
Headers = list[tuple[str, str]]


class Tiny:
    """Reads a body whole, and answers 200 with it; `seen` has the method and path of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.seen.append((scope["method"], scope["path"]))
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def _ask(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/api/queue",
    headers: Headers | None = None,
    body: bytes | list[bytes] = b"",
    server: tuple[str, int] | None = ("127.0.0.1", PORT),
    client: tuple[str, int] = ("127.0.0.1", 50000),
    version: str = "1.1",
) -> Answer:
    """What an application answers; `headers` has a Host of ours unless it says otherwise."""
    given = [("Host", f"127.0.0.1:{PORT}")] if headers is None else headers
    pieces = [body] if isinstance(body, bytes) else list(body)
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": version,
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given],
        "server": server,
        "client": client,
    }
    answer = Answer()

    async def receive() -> Message:
        if not pieces:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status, "it was answered twice"
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    asyncio.run(app(scope, receive, send))
    return answer


@pytest.fixture
def tiny() -> Tiny:
    return Tiny()


@pytest.fixture(scope="session")
def asks() -> Callable[..., Answer]:
    """What an application answers to one request."""
    return _ask
