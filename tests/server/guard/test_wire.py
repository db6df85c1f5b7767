"""The same over a real connection: what only bytes can say, and clients that wait, stall or never end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import uvicorn
from muse_server.web.connection import Connection, configured
from muse_server.web.guard import HEADERS, Guard
from muse_server.web.limits import Limited
from serving import read, said, serving, status, until


class Hasty(Connection):
    """A connection that loses patience within a test."""

    most = 12
    head_seconds = 1.0
    unread_seconds = 1.0
    prompt: ClassVar[list[int]] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        wire = transport.get_extra_info("socket")
        self.prompt.append(wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server of an application that answers with the body it got, or with 64 MiB at /large."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/api/fails":
            raise ValueError("a secret")
        more = scope["path"] != "/api/careless"
        body = b""
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        size = 64 * 2**20 if scope["path"] == "/api/large" else len(body)
        kind = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        if scope["path"] == "/api/large":
            for _ in range(64):
                await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
        await send({"type": "http.response.body", "body": body})

    def make(port: int) -> uvicorn.Config:
        limited = Limited(app, json=1000, idle=0.5, whole=2)
        guarded = Guard(limited, host="127.0.0.1", port=port)
        return configured(guarded, http=Hasty, lifespan="off", log_level="critical", timeout_keep_alive=1)

    with serving(make) as port:
        yield port


def head(port: int, path: str = "/api/queue", method: str = "GET", *more: str, host: str | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Connection: close", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


JSON = "Content-Type: application/json"


def test_it_answers_without_delay(port: int) -> None:
    """A body does not wait for its head to be acknowledged, which takes 40 ms."""
    assert status(said(port, head(port))) == 200
    assert set(Hasty.prompt) == {1}


def test_it_answers(port: int) -> None:
    sent = head(port, "/api/x", "POST", JSON, "Content-Length: 2") + b"{}"
    answer = said(port, sent)
    assert status(answer) == 200
    assert answer.endswith(b"{}")


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"GET /api/queue HTTP/1.0\r\n\r\n", {400}),
        (b"GET /api/queue HTTP/1.1\r\n\r\n", {400}),
        (b"GET /api/queue HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n\r\n", {200}),
        (b"GET /api/queue HTTP/1.0\r\nHost: attacker.test:%d\r\n\r\n", {403}),
        (b"GET /api/queue HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nHost: 127.0.0.1:%d\r\n\r\n", {400}),
        (b"GET /api/queue HTTP/1.0\r\nHost: 127.0.0.1:%d\r\nHost: attacker.test\r\n\r\n", {400}),
        (b"GET /api/queue HTTP/1.1\r\nhost : 127.0.0.1:%d\r\n\r\n", {400}),
        (b"GET /api/queue HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n folded\r\n\r\n", {400, 403}),
        (b"GET http://attacker.test/api/queue HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", {400}),
        (b"GET //attacker.test/api/queue HTTP/1.1\r\nHost: attacker.test:%d\r\n\r\n", {403}),
        (b"GET /api/queue HTTP/2.0\r\nHost: 127.0.0.1:%d\r\n\r\n", {200}),
        (b"GET /api/queue\r\n\r\n", {400}),
        (b"GET /api/\xff HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60 + b"\r\n\r\n", {400}),  # TLS to a plain port
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
        (b"\r\n\r\n\r\n\r\n", {400}),
        (b"GET /api/queue HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: -1\r\n\r\n", {400}),
        (b"POST /api/x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", {400}),
        (b"POST /api/x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nTransfer-Encoding: gzip\r\n\r\nx", {400, 501}),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", {200}),
        (b"X" * 100_000, {400}),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", {400, 431}),
    ],
)
def test_bytes_that_no_browser_sends(port: int, sent: bytes, statuses: set[int]) -> None:
    answer = said(port, sent.replace(b"%d", str(port).encode()))
    assert status(answer) in statuses
    if status(answer) == 400:
        top, _, body = answer.partition(b"\r\n\r\n")
        assert set(json.JSONDecoder().raw_decode(body.decode())[0]["error"]) == {"message", "type", "param", "code"}
        for name in HEADERS:
            assert f"\r\n{name}: ".encode() in top.lower()


def test_ten_thousand_headers(port: int) -> None:
    """uvicorn bounds what it waits for, so that many at once may pass it."""
    for count, size in [(10_000, 1), (10_000, 100), (1, 10**6)]:
        more = [f"X-{number}: {'y' * size}" for number in range(count)]
        assert status(said(port, head(port, "/api/queue", "GET", *more))) in (400, 431, 0)
    assert status(said(port, head(port))) == 200


@pytest.mark.slow
def test_a_chunked_body_without_end(port: int) -> None:
    """Sent as fast as it goes: it ends by its size, the answer comes, and the connection is closed."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(head(port, "/api/x", "POST", JSON, "Transfer-Encoding: chunked"))
        client.settimeout(0.2)
        answer, sent = b"", 0
        while time.monotonic() - begin < 30:
            try:
                client.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                sent += 4096
            except (TimeoutError, ConnectionError):
                break
        client.settimeout(10)
        answer = read(client)
    assert status(answer) in (413, 0)  # a client that only writes may miss it
    assert time.monotonic() - begin < 15
    assert status(said(port, head(port))) == 200


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/api/x", "/api/careless"])
def test_a_slow_chunked_body_without_end(port: int, path: str) -> None:
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(head(port, path, "POST", JSON, "Transfer-Encoding: chunked"))
        try:
            while time.monotonic() - begin < 20:
                client.sendall(b"1\r\nx\r\n")
                time.sleep(0.1)
                if client in select([client]):
                    break
        except ConnectionError:
            pass
        assert status(read(client)) in ({408} if path == "/api/x" else {200})
    assert time.monotonic() - begin < 15


def select(clients: list[socket.socket]) -> list[socket.socket]:
    """Those that have something to read, now."""
    import select

    return select.select(clients, [], [], 0)[0]


def test_a_body_that_stops_amid(port: int) -> None:
    answer = said(port, head(port, "/api/x", "POST", JSON, "Content-Length: 500") + b"{")
    assert status(answer) == 408


def test_a_large_body_is_told_so_to_who_reads_after_writing(port: int) -> None:
    body = b"x" * 5_000_000
    assert status(said(port, head(port, "/api/x", "POST", JSON, f"Content-Length: {len(body)}") + body)) == 413


def test_a_refused_one_too(port: int) -> None:
    body = b"x" * 5_000_000
    for host, path in [("attacker.test", "/api/x"), (None, "/api/careless")]:
        sent = head(port, path, "POST", JSON, f"Content-Length: {len(body)}", host=host) + body
        assert status(said(port, sent)) == (403 if host else 200)


def test_what_awaits_leave_to_send_gets_its_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head(port, "/api/x", "POST", JSON, "Content-Length: 2", "Expect: 100-continue"))
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(b"{}")
        assert status(read(client)) == 200


@pytest.mark.parametrize("sent", [b"", b"GET /api/queue HTTP/1.1\r\n", b"GET /api/queue HTTP/1.1\r\nHost: a\r\nX: "])
def test_a_head_without_end_is_not_waited_for(port: int, sent: bytes) -> None:
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(sent)
        try:
            while not select([client]) and time.monotonic() - begin < 20:
                time.sleep(0.1)
                client.sendall(b"x" if sent else b"")
        except ConnectionError:
            pass
        read(client)
    assert time.monotonic() - begin < 10


def test_nor_is_a_second_one_on_the_same_connection(port: int) -> None:
    begin = time.monotonic()
    kept = head(port).replace(b"close", b"keep-alive")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        for _ in range(3):
            client.sendall(kept)
            assert status(client.recv(65536)) == 200
        client.sendall(kept[:40])
        read(client)
    assert time.monotonic() - begin < 10


def test_a_client_that_does_not_read_is_not_waited_for(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(head(port, "/api/large"))
        time.sleep(2.5)
        assert len(read(client)) < 64 * 2**20
    assert status(said(port, head(port))) == 200


def test_so_many_connections_and_no_more(port: int) -> None:
    clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(Hasty.most + 8)]
    try:
        time.sleep(0.3)
        refused = select(clients)
        answers = [client.recv(65536) for client in refused]
        assert len(refused) >= 8
        assert {status(answer) for answer in answers} == {429}
        assert all(b"retry-after: 1\r\n" in answer for answer in answers)
    finally:
        for client in clients:
            client.close()
    assert until(lambda: status(said(port, head(port))) == 200)


def test_garbage_amid_a_body_ends_that_connection_alone(port: int) -> None:
    sent = head(port, "/api/x", "POST", JSON, "Transfer-Encoding: chunked") + b"zzz\r\n\r\n"
    assert status(said(port, sent)) in (400, 0)
    assert status(said(port, head(port))) == 200


def test_requests_in_one_piece_are_answered_in_turn(port: int) -> None:
    kept = head(port).replace(b"close", b"keep-alive")
    evil = head(port, host="attacker.test").replace(b"close", b"keep-alive")
    answer = said(port, kept + evil + head(port))
    assert [int(each[:3]) for each in answer.split(b"HTTP/1.1 ")[1:]] == [200, 403, 200]


def test_what_fails_has_no_word_of_it(port: int) -> None:
    answer = said(port, head(port, "/api/fails"))
    assert (status(answer), b"secret" in answer) == (500, False)
    assert b"nosniff" in answer
