"""Work for a client that may go away: it is cancelled then, and a stream that has nothing to say stays open."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from muse_server.web.answers import told

EVERY = 15.0
"""Seconds without an event, after which a comment keeps proxies from closing a stream."""
GONE = 499
"""The status of an answer that nobody hears, as web servers write it in their logs."""
COMMENT = b": waiting\n\n"

T = TypeVar("T")


async def until(work: Coroutine[Any, Any, T], *ends: Coroutine[Any, Any, Any]) -> T | None:
    """What `work` gives or raises; None where one of `ends` ended first, and `work` was cancelled."""
    task = asyncio.ensure_future(work)
    others = [asyncio.ensure_future(each) for each in ends]
    try:
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, *others):
            each.cancel()
        await asyncio.gather(task, *others, return_exceptions=True)


async def gone(request: Request) -> None:
    """Returns when the client has closed its connection; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event(name: str, data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def stream(request: Request, events: AsyncGenerator[bytes]) -> Response:
    """A stream of events, which are closed when the client goes.

    The head waits for the first event, at most until a comment is due, so that what is refused has a status of its own;
    what is raised later is told as an event `error`.
    """
    heard = _with_comments(events)
    first = await until(_next(heard), gone(request))
    return _Events(_telling(heard, first)) if first is not None else Response(status_code=GONE)


class _Events(StreamingResponse):
    """A stream whose generator is closed with it, not when the garbage collector comes by."""

    def __init__(self, content: AsyncGenerator[bytes]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._content):
            await super().__call__(scope, receive, send)


async def _telling(events: AsyncGenerator[bytes], first: bytes) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        try:
            yield first
            async for each in events:
                yield each
        except Exception as error:
            _, body, _ = told(error)
            yield event("error", body)


async def _with_comments(events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """What `events` yields, and a comment whenever none came for so long."""
    waiting: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            waiting = waiting or asyncio.create_task(_next(events))
            await asyncio.wait({waiting}, timeout=EVERY)
            if not waiting.done():
                yield COMMENT
                continue
            each, waiting = waiting.result(), None
            if each is None:
                return
            yield each
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await events.aclose()


async def _next(events: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(events, None)
