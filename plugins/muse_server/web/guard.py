"""Who may ask this server, before anything else looks at a request; and what all of its answers say of themselves.

A page of any site that is open in the same browser can send requests to this machine, and read what comes back by a
name that it points here. So a request must call us by a name of ours, must not come from a page of another origin, and
must have a content type that no form can send where it changes anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muse_server.web.answers import failure
from muse_server.web.asked import Asked, Malformed, check_names, names
from muse_server.web.limits import Body, drained
from muse_server.web.token import SIGN_IN, Token

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""What every answer says, an error too."""

FRESH = ("/api/", "/v1/", "/sdapi/")
"""Paths whose answers no browser and no proxy may keep."""

METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
PICTURES = ("image/png", "image/jpeg", "image/webp")
TOKEN_BYTES = 4096


class Guard:
    """Lets through what a page of this server, or a program, asks for; answers all else with what is wrong.

    host, port: where the server listens. hosts: further names that a Host header may have. origins: pages of others
    that may ask, as scheme://host[:port]; without any there are no CORS headers. token: what a client must know, None
    where it need not. Raises SettingError where a name or an origin can't be one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        token: str | None = None,
    ) -> None:
        check_names(hosts, origins)
        self._app = app
        self._names = names(host, port, hosts)
        self._origins = frozenset(origins)
        self._token = Token(token, port) if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application answer it; a WebSocket is closed unopened."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._guarded(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin, started = None, False

        async def sealed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _seal(MutableHeaders(scope=message), scope["path"], origin)
            await send(message)

        try:
            asked = Asked.of(scope)
        except Malformed as error:
            refusal: Response | None = failure(400, f"{error}")
        else:
            refusal = self._refusal(asked)
            if asked.headers.get("origin") in self._origins:
                origin = asked.headers["origin"]
        if refusal is not None:
            await drained(receive)
            await refusal(scope, receive, sealed)
            return
        own = await self._own(asked, receive)
        try:
            await (own or self._app)(scope, receive, sealed)
        except Exception:
            if not started:
                await failure(500, "error that is not yours")(scope, receive, sealed)
            raise

    def _refusal(self, asked: Asked) -> Response | None:
        """The answer to what may not pass; None where it may."""
        if asked.method not in METHODS:
            return failure(405, f"no {asked.method[:20]} is known here")
        if asked.host not in self._names and asked.host != asked.local:
            return failure(403, f"this server does not go by the name {asked.host[:100]!r}; `hosts` can name it")
        if self._is_foreign(asked) and not _is_navigation(asked):
            return failure(403, "a page of another site asks; `origins` can name it")
        if asked.method == "POST" and not _has_fitting_kind(asked):
            return failure(415, f"{asked.path[:100]} takes application/json, or the kind of file that it is for")
        if self._token and asked.method != "OPTIONS" and self._token.is_needed(asked) and not self._token.is_in(asked):
            refused = failure(401, "this server asks for its token", code="invalid_api_key")
            refused.headers["www-authenticate"] = "Bearer"
            return refused
        return None

    def _is_foreign(self, asked: Asked) -> bool:
        """Whether a page of another origin asks. What is sent by no page has neither header.

        `same-site` is foreign: a page at another port of this machine is same-site.
        """
        origin = asked.headers.get("origin")
        if origin in self._origins:
            return False
        site = asked.headers.get("sec-fetch-site")
        if site is not None:  # no page can forge it
            return site not in ("same-origin", "none")
        return origin is not None and origin.lower() != f"{asked.scheme}://{asked.host}"

    async def _own(self, asked: Asked, receive: Receive) -> Response | None:
        """The answer to what is asked of the guard itself: a preflight, or the page's token; else None."""
        if asked.method == "OPTIONS":
            return _preflight() if asked.headers.get("origin") in self._origins else failure(405, "no OPTIONS here")
        if asked.path != SIGN_IN or asked.method != "POST":
            return None
        answer = Response(status_code=204)
        if self._token is not None:
            if not self._token.is_sent(await Body(receive, TOKEN_BYTES).whole()):
                return failure(401, "this is not the token of this server", param="token", code="invalid_api_key")
            answer.headers["set-cookie"] = self._token.cookie
        return answer


def _is_navigation(asked: Asked) -> bool:
    """Whether a browser opens the page itself, in a tab: the one thing that a link elsewhere may do."""
    told = asked.headers.get("sec-fetch-mode"), asked.headers.get("sec-fetch-dest")
    return asked.method == "GET" and asked.path == "/" and told == ("navigate", "document")


def _has_fitting_kind(asked: Asked) -> bool:
    """Whether a POST's content type is one that a page of another origin can't send without asking first.

    A form of files is one that it can; OpenAI's clients send such, under /v1/. A1111's may send no body and no type.
    """
    kind, path = asked.kind, asked.path
    if kind == "":
        return path.startswith("/sdapi/") and not asked.has_body
    if kind in PICTURES:
        return path.startswith("/api/")
    if kind == "multipart/form-data":
        return path.startswith("/v1/")
    return kind == "application/json" or (kind, path) == ("application/octet-stream", "/api/sessions/file")


def _preflight() -> Response:
    """The answer to a named origin's browser that asks what its page may send."""
    allowed = {
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": "authorization, content-type, last-event-id",
    }
    return Response(status_code=204, headers=allowed)


def _seal(headers: MutableHeaders, path: str, origin: str | None) -> None:
    """Put the headers of every answer into one; `origin`: the named one that asks."""
    for name, value in HEADERS.items():
        headers[name] = value
    if path.startswith(FRESH):
        headers["cache-control"] = "no-store"
    if origin is not None:
        headers["access-control-allow-origin"] = origin
        headers.add_vary_header("Origin")
