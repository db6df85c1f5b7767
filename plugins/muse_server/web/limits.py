"""How much a request may be, and how long it may take: sizes counted as they come, times, streams an address."""

from __future__ import annotations

import asyncio
from collections import Counter

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muse_server.web.answers import failure

MIB = 2**20
JSON_BYTES = MIB
"""Of JSON, which is read on the event loop: what is larger would hold up all others."""

PICTURED_BYTES = 8 * MIB
"""Of JSON that has pictures in it, as A1111's does."""

PICTURED = "/sdapi/"
FILE_BYTES = 32 * MIB
BARE_BYTES = 64 * 1024
"""Of a body of no kind that is known."""

HEADERS = 100
HEAD_BYTES = 32 * 1024
STREAMS = 8
IDLE_SECONDS = 20.0
WHOLE_SECONDS = 180.0
DRAIN_SECONDS = 5.0


class Body:
    """A request's body, which is called in place of ASGI's `receive`.

    most: bytes that may come. idle: seconds that may pass between two pieces; whole: until its end. What is more raises
    HTTPException, 413 or 408, which is also kept as `refused`.
    """

    def __init__(self, receive: Receive, most: int, idle: float = IDLE_SECONDS, whole: float = WHOLE_SECONDS) -> None:
        self.refused: HTTPException | None = None
        self._receive, self._most, self._idle = receive, most, idle
        self._end = asyncio.get_running_loop().time() + whole
        self._taken = 0
        self._ended = False

    async def __call__(self) -> Message:
        """The next piece; after the last, what ASGI says then, which is that the client has gone."""
        if self.refused is not None:
            raise self.refused
        if self._ended:
            return await self._receive()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + self._idle, self._end)):
                message = await self._receive()
        except TimeoutError:
            raise self._refuse(408, "the rest of what was sent did not come") from None
        self._ended = not message.get("more_body", False)
        self._taken += len(message.get("body", b""))
        if self._taken > self._most:
            await self.drain()
            raise self._refuse(413, f"what was sent is larger than the {_size(self._most)} that may be")
        return message

    async def whole(self) -> bytes:
        """All of it at once; empty where it is refused."""
        pieces = []
        try:
            while not self._ended:
                pieces.append((await self()).get("body", b""))
        except HTTPException:
            return b""
        return b"".join(pieces)

    async def drain(self) -> None:
        """Read what the application has not read, see `drained`."""
        if not self._ended:
            self._ended = True
            await drained(self._receive)

    def _refuse(self, status: int, message: str) -> HTTPException:
        self.refused = HTTPException(status, message)
        return self.refused


class Limited:
    """An application whose requests are of bounded size, and bounded in time until they have come.

    streams: answers by events that one address may hold open at once. What goes beyond a limit is answered here,
    whatever the application makes of the exception.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        json: int = JSON_BYTES,
        pictured: int = PICTURED_BYTES,
        files: int = FILE_BYTES,
        streams: int = STREAMS,
        idle: float = IDLE_SECONDS,
        whole: float = WHOLE_SECONDS,
    ) -> None:
        self._app, self._streams = app, streams
        self._json, self._pictured, self._files = json, pictured, files
        self._idle, self._whole = idle, whole
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope["headers"]) > HEADERS or _head(scope) > HEAD_BYTES:
            await drained(receive)
            refusal = failure(431, f"a request may have {HEADERS} headers, of {_size(HEAD_BYTES)} with its address")
            await refusal(scope, receive, send)
            return
        body = Body(receive, self._most(scope), self._idle, self._whole)
        address = scope["client"][0] if scope.get("client") else ""
        started = streams = False

        async def within(message: Message) -> None:
            nonlocal started, streams
            if message["type"] == "http.response.start":
                if _is_stream(message) and body.refused is None:
                    if self._open[address] >= self._streams:
                        body.refused = HTTPException(429, f"{self._streams} streams are open from your address")
                        raise body.refused
                    self._open[address] += 1
                    streams = True
                await body.drain()
                started = body.refused is None
            if started:
                await send(message)

        try:
            await self._app(scope, body, within)
        except Exception:
            if body.refused is None:
                raise
        finally:
            if streams:
                self._open[address] -= 1
                self._open += Counter()  # forgets the addresses that have none
        if body.refused is not None and not started:
            await _answer(body.refused)(scope, receive, send)

    def _most(self, scope: Scope) -> int:
        """How many bytes the body of a request may have, by what it says it is."""
        kind = dict(scope["headers"]).get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind == b"application/json":
            return self._pictured if scope["path"].startswith(PICTURED) else self._json
        return self._files if kind.startswith((b"image/", b"multipart/", b"application/octet")) else BARE_BYTES


async def drained(receive: Receive, seconds: float = DRAIN_SECONDS) -> None:
    """Read what is still sent, for some seconds: a client that is writing does not read what it is answered."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        return


def _head(scope: Scope) -> int:
    """How many bytes a request's head has, about."""
    target = len(scope.get("raw_path", b"")) + len(scope.get("query_string", b""))
    return target + sum(len(name) + len(value) for name, value in scope["headers"])


def _answer(refused: HTTPException) -> Response:
    answer = failure(refused.status_code, refused.detail)
    if refused.status_code == 429:
        answer.headers["retry-after"] = "1"
    return answer


def _is_stream(message: Message) -> bool:
    return dict(message.get("headers", ())).get(b"content-type", b"").startswith(b"text/event-stream")


def _size(count: int) -> str:
    return f"{count // MIB} MiB" if count >= MIB else f"{count // 1024} KiB"
