"""A session's events as they stand on the wire, until the client or the server goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from muse_server.canvases.events import Event
from muse_server.refusals import Refusal
from muse_server.web import streams
from starlette.requests import Request


class Told:
    """Events, and then silence; `closed` once nobody listens."""

    def __init__(self, *events: Event, ends: bool = False) -> None:
        self.events, self.ends, self.closed = events, ends, False

    async def listen(self) -> AsyncGenerator[Event]:
        try:
            for each in self.events:
                yield each
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.closed = True


APPLE = Event(41, "step", {"step": 1, "image": None, "text": "a\nb"})


def heard(told: Told, pieces: int, closing: asyncio.Event | None = None, gone: bool = True) -> list[bytes]:
    """The first pieces of a stream; then the client goes, or the server closes."""
    sent: list[bytes] = []

    async def run() -> None:
        end, left = closing or asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert dict(message["headers"])[b"content-type"].startswith(b"text/event-stream")
            elif message.get("body"):
                sent.append(message["body"])
            if len(sent) >= pieces:
                (left if gone else end).set()

        response = streams.stream(told.listen(), end)
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await asyncio.wait_for(response(scope, receive, send), 10)

    asyncio.run(run())
    return sent


def test_an_event_has_its_number_its_name_and_its_data_in_one_line() -> None:
    told = Told(APPLE)
    retry, event = heard(told, 2)
    assert retry == b"retry: 1000\n\n"
    lines = event.decode().split("\n")
    assert lines[:2] == ["id: 41", "event: step"] and lines[3:] == ["", ""]
    assert json.loads(lines[2].removeprefix("data: ")) == APPLE.data
    assert told.closed


def test_the_listener_is_gone_with_the_client_and_with_the_server() -> None:
    for gone in (True, False):
        told = Told(APPLE)
        heard(told, 2, gone=gone)
        assert told.closed


def test_a_comment_comes_where_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "EVERY", 0.01)
    assert heard(Told(APPLE), 4)[2:4] == [streams.COMMENT, streams.COMMENT]


def test_a_stream_ends_where_its_session_does() -> None:
    told = Told(APPLE, ends=True)
    assert len(heard(told, 99)) == 2 and told.closed


def asked(header: str | None = None, query: str = "") -> Request:
    headers = [] if header is None else [(b"last-event-id", header.encode())]
    return Request({"type": "http", "headers": headers, "query_string": query.encode()})


def test_a_client_that_comes_back_says_what_it_has() -> None:
    assert streams.after(asked()) is None and streams.after(asked("")) is None
    assert streams.after(asked("17")) == 17 and streams.after(asked(query="after=18")) == 18
    for wrong in ("x", "-1", "9" * 40):
        with pytest.raises(Refusal):
            streams.after(asked(wrong))
