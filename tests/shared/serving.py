"""A real server on loopback for tests: uvicorn in a thread, and requests written to its socket byte by byte."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn


@contextmanager
def serving(make: Callable[[int], uvicorn.Config], host: str = "127.0.0.1") -> Iterator[int]:
    """Serves what `make` gives for a port, and yields that port; all is ended behind it."""
    with socket.socket() as listening:
        listening.bind((host, 0))
        port = listening.getsockname()[1]
        server = uvicorn.Server(make(port))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            assert server.started
            yield port
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Waits until the condition is true, and gives what it was; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)
    return found


def said(port: int, sent: bytes, seconds: float = 30) -> bytes:
    """All that a server answers to these bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
        with suppress(ConnectionError):  # it may answer before it has read all
            client.sendall(sent)
        return read(client)


def read(client: socket.socket) -> bytes:
    """What comes until the other side closes the connection."""
    pieces = []
    with suppress(ConnectionError):
        while piece := client.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def status(answer: bytes) -> int:
    """The status of an answer, 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0
