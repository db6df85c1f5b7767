"""A client's connection: how many there may be, and how long one may wait, which is before a request or behind it."""

from __future__ import annotations

import asyncio
import json
import socket
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from muse_server.web.guard import HEADERS

CONNECTIONS = 256
HEAD_SECONDS = 10.0
"""How long a request's head may take to come."""

UNREAD_SECONDS = 60.0
"""How long a client may leave unread what is sent to it."""

HEAD_BYTES = 64 * 1024


class Connection(H11Protocol):
    """uvicorn's connection, which waits for a head and for a reader no longer than it may, and is one of a few.

    What it answers by itself has the shape and the headers of all other answers.
    """

    most = CONNECTIONS
    head_seconds = HEAD_SECONDS
    unread_seconds = UNREAD_SECONDS

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it wait for a request, or refuse it where there are too many."""
        super().connection_made(transport)
        wire = transport.get_extra_info("socket")
        if wire is not None and wire.family in (socket.AF_INET, socket.AF_INET6):
            # asyncio does so for sockets that it bound itself; else a body waits 40 ms for its head to be acknowledged
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.most:
            self._refuse(429, f"{self.most} connections are open, which is all that there may be", "retry-after: 1\r\n")
        else:
            self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer for anything."""
        super().connection_lost(exc)
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()

    def handle_events(self) -> None:
        """Take what has come; a head that has begun must end in time."""
        super().handle_events()
        self._watch_head()

    def on_response_complete(self) -> None:
        """End the connection of a client that still sends what it was answered to."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.transport.close()

    def pause_writing(self) -> None:
        """What is sent is not read: wait, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It is read again."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # it is being answered: there is no place for another answer
        else:
            self._refuse(400, "this is no request of HTTP, or one with a head that is too large")

    def _watch_head(self) -> None:
        waits = self.conn.their_state is h11.IDLE
        if waits and self._head is None:
            self._head = self.loop.call_later(self.head_seconds, self.transport.close)
        elif not waits and self._head is not None:
            self._head.cancel()
            self._head = None

    def _refuse(self, status: int, message: str, more: str = "") -> None:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        body = json.dumps({"error": error})
        said = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        self.transport.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nconnection: close\r\n{said}{more}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        self.transport.close()


def configured(app: ASGIApp, **settings: Any) -> uvicorn.Config:
    """uvicorn's settings for an application that stands in the open: no log of what is asked, as that has prompts."""
    given: dict[str, Any] = {
        "http": Connection,
        "ws": "none",  # a WebSocket would pass by what guards requests
        "proxy_headers": False,  # anybody could say to be another
        "server_header": False,
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": 2,  # streams have no end of their own
        "h11_max_incomplete_event_size": HEAD_BYTES,
    }
    return uvicorn.Config(app, **given | settings)
