"""The port that a server listens at; where it is taken, by whom, and which one is free."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException

from muse_studio.errors import UserError, words_of

TRIED = 50
"""Ports after one that is taken, of which the first free one is offered."""
PATIENCE = 1.0
"""Seconds that another program has to say who it is."""
READ = 4096
EVERYBODYS = 1024
"""The first port that needs no rights."""


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound there, closed at the end; 0 is a port that is free.

    UserError where it is taken, not for everybody, or no address of this machine.
    """
    try:
        listener = _bind(host, port)
    except OSError as error:
        raise UserError(_refusal(host, port, error)) from error
    with listener:
        yield listener


def _bind(host: str, port: int) -> socket.socket:
    kind, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(kind, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # there it lets a port be taken that has just been given up, and no more
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _refusal(host: str, port: int, error: OSError) -> str:
    """Why a port can't be had, and what to do."""
    if error.errno == errno.EADDRINUSE:
        free = _free(host, port)
        return f"port {port} is taken, by {_who(host, port)}; end that, or give another one: port={free}"
    if error.errno == errno.EACCES:
        return f"port {port} is not for everybody here; give one from 1024 on, such as port={_free(host, EVERYBODYS)}"
    return f"host {host} is no address of this machine ({words_of(error)}); give 127.0.0.1, or 0.0.0.0 for all it has"


def _free(host: str, port: int) -> int:
    """A free port, near the one that was asked for."""
    for each in (*range(port + 1, min(port + TRIED, 65535) + 1), 0):
        try:
            with _bind(host, each) as listener:
                found: int = listener.getsockname()[1]
                return found
        except OSError:
            continue
    return 0


def _who(host: str, port: int) -> str:
    """Which program listens there, as far as it says."""
    near = "127.0.0.1" if host in ("0.0.0.0", "localhost") else "::1" if host == "::" else host.strip("[]")
    asking = HTTPConnection(near, port, timeout=PATIENCE)
    try:
        asking.request("GET", "/")
        answer = asking.getresponse()
        server, page = answer.getheader("server") or "", answer.read(READ).decode("utf-8", "replace")
    except (OSError, HTTPException, ValueError):
        return "a program that answers no browser"
    finally:
        asking.close()
    title = re.search(r"<title[^>]*>([^<]{1,80})", page, re.IGNORECASE)
    if title and "muse studio" in title[1].lower():
        return f"another muse studio, which is open at http://{near}:{port}"
    told = title[1].strip() if title else server
    return f"a program that calls itself {told!r}" if told else "a program that does not say which it is"
