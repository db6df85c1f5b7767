"""Answers in JSON, and errors in the shape that OpenAI's API has, none of them with a path of this machine."""

from __future__ import annotations

import json
import logging
import math
import os
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muse_server.engine import Cancelled
from muse_server.refusals import Refusal
from muse_server.work import failures
from muse_studio.errors import Refused, UserError, error_message

LOG = logging.getLogger("muse_server")

ONCE = "x-should-retry"
"""The header by which OpenAI's clients don't ask again by themselves, and draw the same thrice."""
REFUSED = "content_policy_violation"
"""OpenAI's code for what a filter refuses."""

_PLAIN = {404: "there is nothing at this address", 405: "this address takes no such method"}
"""What is said where a route is missed."""


def failure(status: int, message: str, *, param: str | None = None, code: str | None = None) -> JSONResponse:
    """An error as an answer: `{"error": {"message", "type", "param", "code"}}`."""
    return JSONResponse(_error(status, message, param, code), status)


def told(error: BaseException) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The status, the body and the headers that an exception is told by.

    A UserError's own words are told, without places of this machine; of all else, that it is an error that is not
    theirs, and a line here.
    """
    if isinstance(error, HTTPException):
        message = _PLAIN.get(error.status_code, error.detail)
        return error.status_code, _error(error.status_code, message), dict(error.headers or {})
    if isinstance(error, Cancelled):
        return 409, _error(409, "it was cancelled", code="cancelled"), {ONCE: "false"}
    if not isinstance(error, UserError):
        log(error)
        return 500, _error(500, failures.NOT_YOURS), {ONCE: "false"}
    status = getattr(error, "status", 400)
    code = REFUSED if isinstance(error, Refused) else getattr(error, "code", None)
    after = getattr(error, "retry_after", None)
    headers = {} if after is None else {"retry-after": str(after)}
    return status, _error(status, failures.failure(error)["message"], getattr(error, "param", None), code), headers


async def failed(request: Request, error: Exception) -> JSONResponse:
    """The answer that an exception of a handler becomes."""
    status, body, headers = told(error)
    return JSONResponse(body, status, headers)


def log(error: BaseException) -> None:
    """A line about what went wrong, and the whole traceback where MUSE_TRACEBACK is 1."""
    LOG.error("error that is not the client's: %s", error_message(error))
    if os.environ.get("MUSE_TRACEBACK") == "1":
        LOG.error("".join(traceback.format_exception(error)))


class Faults:
    """Answers for handlers that raise what they should not; an answer that has begun is cut off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer, and do it in its place where it breaks."""
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            status, body, headers = told(error)
            await JSONResponse(body, status, headers)(scope, receive, send)


async def body_of(request: Request, *fields: str) -> dict[str, Any]:
    """A request's JSON, an object with no other than these fields; nothing at all is an empty one. Refusal otherwise.

    Where no field is named, it may have any.
    """
    content = await request.body()
    if not content:
        return {}
    try:
        value = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal("the body is no JSON") from error
    if not isinstance(value, dict):
        raise Refusal("the body must be an object of JSON, such as {}")
    if fields and (strange := [each for each in value if each not in fields]):
        raise Refusal(f"no {strange[0][:40]!r} is known here; it takes {', '.join(fields)}", strange[0][:40])
    return value


def a_number(value: Any, param: str, least: int = 0, most: int | float = math.inf) -> int:
    """A whole number within bounds; Refusal otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        bounds = f"of {least} or more" if most == math.inf else f"from {least} to {most}"
        raise Refusal(f"{param}: expected a whole number {bounds}", param)
    return value


def asked_number(query: Mapping[str, str], param: str, default: int, least: int, most: int) -> int:
    """A whole number of an address's query, as `a_number`."""
    text = query.get(param, str(default))
    return a_number(int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None, param, least, most)


def a_text(value: Any, param: str, most: int) -> str:
    """A text of at most so many letters, no half of a surrogate pair in it; Refusal otherwise."""
    if not isinstance(value, str) or len(value) > most or any("\ud800" <= each <= "\udfff" for each in value):
        raise Refusal(f"{param}: expected a text of at most {most} letters", param)
    return value


def _error(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code or _code(status)}}


def _code(status: int) -> str | None:
    """HTTP's own words for a status, for programs."""
    return None if status == 400 else HTTPStatus(status).phrase.lower().replace(" ", "_")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
