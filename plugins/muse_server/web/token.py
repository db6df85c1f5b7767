"""The token that a server on a network asks for: by a browser's cookie, or a program's header."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json

from muse_server.web.asked import Asked

SIGN_IN = "/api/token"
"""Where the page sends it."""

BASIC = "/sdapi/"
"""Where programs send it as a password, as A1111's do."""


class Token:
    """A server's token; its port is in the cookie's name, as a browser keeps one jar for all ports of a host."""

    def __init__(self, token: str, port: int) -> None:
        self._token = token.encode()
        self._name = f"muse_{port}"
        self._cookie = hashlib.sha256(b"muse studio's cookie\0" + self._token).hexdigest()

    def is_needed(self, asked: Asked) -> bool:
        """Whether a request must have it: all but those for the page itself, which then sends it."""
        page = asked.method in ("GET", "HEAD") and (asked.path == "/" or asked.path.startswith("/page/"))
        return not page and asked.path != SIGN_IN

    def is_in(self, asked: Asked) -> bool:
        """Whether a request has it: in its cookie, as `Bearer`, or as the password of `Basic` for A1111's dialect."""
        for pair in asked.cookies.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self._name and hmac.compare_digest(value.encode("latin-1"), self._cookie.encode()):
                return True
        scheme, _, said = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(said.strip().encode("latin-1"), self._token)
        if scheme.lower() == "basic" and asked.path.startswith(BASIC):
            return hmac.compare_digest(_password(said), self._token)
        return False

    def is_sent(self, body: bytes) -> bool:
        """Whether this is `{"token": ...}` with it."""
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            return False
        given = said.get("token") if isinstance(said, dict) else None
        return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    @property
    def cookie(self) -> str:
        """The header that sets it: no script can read it, no other site's request brings it."""
        return f"{self._name}={self._cookie}; HttpOnly; SameSite=Strict; Path=/"


def _password(said: str) -> bytes:
    try:
        return base64.b64decode(said.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
