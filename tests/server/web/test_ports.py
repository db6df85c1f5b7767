"""A port that is taken is told with who has it, and with one that is free."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from muse_server import ports

from muse_studio.errors import UserError


@contextmanager
def answering(said: bytes) -> Iterator[int]:
    """A program that says this to whoever asks."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def answer() -> None:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                client.recv(1000)
                client.sendall(said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def page(title: str, head: str = "") -> bytes:
    return f"HTTP/1.0 200 OK\r\n{head}\r\n<html><title>{title}</title>".encode()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (page("muse studio"), "another muse studio, which is open at http://127.0.0.1:"),
        (page("Stable Diffusion"), "a program that calls itself 'Stable Diffusion'"),
        (page("", "Server: SimpleHTTP/0.6\r\n"), "a program that calls itself 'SimpleHTTP/0.6'"),
        (page(""), "a program that does not say which it is"),
        (b"SSH-2.0-OpenSSH\r\n", "a program that answers no browser"),
    ],
)
def test_a_taken_port_is_told_with_who_has_it(said: bytes, told: str) -> None:
    with answering(said) as port:
        with pytest.raises(UserError) as refused, ports.bound("127.0.0.1", port):
            pass
        message = str(refused.value)
        assert message.startswith(f"port {port} is taken, by {told}")
        free = int(message.rpartition("port=")[2])
        with ports.bound("127.0.0.1", free) as listener:
            assert listener.getsockname() == ("127.0.0.1", free)


def test_port_0_is_one_that_is_free_and_is_given_back() -> None:
    with ports.bound("localhost", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
    with ports.bound("127.0.0.1", port):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_no_address_here_is_refused(host: str) -> None:
    with pytest.raises(UserError, match=f"^host {host} is no address of this machine"), ports.bound(host, 0):
        pass


def test_a_port_for_which_one_needs_rights_is_told(monkeypatch) -> None:
    real = ports._bind

    def refusing(host: str, port: int) -> socket.socket:
        if port < 1024 and port != 0:
            raise PermissionError(13, "Permission denied")
        return real(host, port)

    monkeypatch.setattr(ports, "_bind", refusing)
    told = r"port 80 is not for everybody here; give one from 1024 on, such as port=\d+"
    with pytest.raises(UserError, match=told), ports.bound("127.0.0.1", 80):
        pass
