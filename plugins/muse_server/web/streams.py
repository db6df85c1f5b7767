"""Server-sent events of a session: numbered, with a comment now and then, until the client or the server goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Send

from muse_server.refusals import Refusal

if TYPE_CHECKING:
    from muse_server.canvases.events import Event

EVERY = 15.0
"""Seconds without an event, after which a comment keeps proxies from closing the stream."""
COMMENT = b": nothing new\n\n"
RETRY = 1000
"""Milliseconds after which a browser asks again where a stream was cut."""


def after(request: Request) -> int | None:
    """The number of the last event that a client has, by its header or, where it begins anew, its query; or None."""
    said = request.headers.get("last-event-id") or request.query_params.get("after")
    if not said:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 16):
        raise Refusal("Last-Event-ID: expected the number of an event", "Last-Event-ID")
    return int(said)


def stream(events: AsyncGenerator[Event], closing: asyncio.Event) -> StreamingResponse:
    """The events as an answer that goes on until the client has gone or `closing` is set; then they are closed."""
    return _Stream(_written(events, closing), media_type="text/event-stream")


class _Stream(StreamingResponse):
    """Closes what it tells as soon as nobody listens."""

    async def stream_response(self, send: Send) -> None:
        """Send all events; whatever ends it, the listener is gone then."""
        async with aclosing(cast(AsyncGenerator[bytes], self.body_iterator)):
            await super().stream_response(send)


async def _written(events: AsyncGenerator[Event], closing: asyncio.Event) -> AsyncGenerator[bytes]:
    yield f"retry: {RETRY}\n\n".encode()
    closed = asyncio.ensure_future(closing.wait())
    following: asyncio.Future[Event] | None = None
    try:
        while not closed.done():
            following = following or asyncio.ensure_future(_next(events))
            waiting: list[asyncio.Future[Any]] = [closed, following]
            await asyncio.wait(waiting, timeout=EVERY, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                event, following = following.result(), None
                yield _event(event)
            elif not closed.done():
                yield COMMENT
    except StopAsyncIteration:
        return
    finally:
        ending = [each for each in (closed, following) if each is not None]
        for each in ending:
            each.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await events.aclose()


def _event(event: Event) -> bytes:
    data = json.dumps(event.data, separators=(",", ":"))
    return f"id: {event.number}\nevent: {event.name}\ndata: {data}\n\n".encode()


async def _next(events: AsyncGenerator[Event]) -> Event:
    return await anext(events)
