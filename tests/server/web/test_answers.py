"""Errors have OpenAI's shape, and say no more than their client may know."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from muse_server.engine import Cancelled
from muse_server.refusals import Busy, Full, NotFound, Refusal
from muse_server.web.answers import Faults, a_number, a_text, asked_number, body_of, failure, told
from starlette.exceptions import HTTPException
from starlette.requests import Request

from muse_studio.errors import Problem, RecipeError, Refused, UserError

TOLD = [
    (UserError("steps is 0"), 400, "steps is 0", None, None),
    (Refusal("no such field", "seed"), 400, "no such field", "seed", None),
    (NotFound("none"), 404, "none", None, "not_found"),
    (Busy("busy"), 409, "busy", None, "busy"),
    (Full("full", 3), 429, "full", None, "rate_limit_exceeded"),
    (Refused("the prompt is refused"), 400, "the prompt is refused", None, "content_policy_violation"),
    (Cancelled(), 409, "it was cancelled", None, "cancelled"),
    (HTTPException(404), 404, "there is nothing at this address", None, "not_found"),
    (HTTPException(413, "too large"), 413, "too large", None, "request_entity_too_large"),
    (RecipeError([Problem("override 'x'", "stages.base", "is bad")]), 400, "stages.base: is bad", None, None),
    (UserError("/srv/ann/x.png is full"), 400, "… is full", None, None),
]


@pytest.mark.parametrize(("error", "status", "message", "param", "code"), TOLD)
def test_an_error_is_told_in_openais_shape(error: Exception, status: int, message: str, param: Any, code: Any) -> None:
    found, body, headers = told(error)
    assert found == status
    assert body == {"error": {"message": message, "type": body["error"]["type"], "param": param, "code": code}}
    assert body["error"]["type"] == ("rate_limit_error" if status == 429 else "invalid_request_error")
    assert headers.get("retry-after") == ("3" if status == 429 else None)


def test_what_is_a_bug_is_told_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    status, body, headers = told(ZeroDivisionError("secret of /srv/ann"))
    assert (status, headers) == (500, {"x-should-retry": "false"})
    assert body["error"]["type"] == "server_error" and "not yours" in body["error"]["message"]
    assert "secret" not in json.dumps(body) and "secret" in caplog.text and "Traceback" not in caplog.text


def test_a_whole_traceback_is_shown_where_it_is_asked_for(caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_TRACEBACK", "1")
    try:
        raise KeyError("x")
    except KeyError as error:
        told(error)
    assert "Traceback" in caplog.text


def request(body: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def test_a_body_is_an_object_of_known_fields() -> None:
    assert asyncio.run(body_of(request(b""), "seed")) == {}
    assert asyncio.run(body_of(request(b'{"seed": 1}'), "seed")) == {"seed": 1}
    assert asyncio.run(body_of(request(b'{"other": 1}'))) == {"other": 1}


@pytest.mark.parametrize("body", [b"[]", b"7", b"{", b"\xff", b"NaN", b'{"seed": NaN}', b"[" * 100_000, b'{"out": 1}'])
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal):
        asyncio.run(body_of(request(body), "seed"))


def test_numbers_and_texts_are_held_to_their_bounds() -> None:
    assert a_number(3, "n", 1, 5) == 3 and a_text("é", "t", 1) == "é"
    assert asked_number({"n": "4"}, "n", 9, 0, 5) == 4 and asked_number({}, "n", 9, 0, 9) == 9
    for wrong in (0, 6, True, 1.0, "3", None):
        with pytest.raises(Refusal, match="n: expected a whole number from 1 to 5"):
            a_number(wrong, "n", 1, 5)
    for text in ("x", "-1", "٣", "9" * 30, ""):
        with pytest.raises(Refusal):
            asked_number({"n": text}, "n", 0, 0, 5)
    for wrong in (7, "ab", "\ud800"):
        with pytest.raises(Refusal, match="t: expected a text"):
            a_text(wrong, "t", 1)


def answered(app: Any) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Faults(app)({"type": "http"}, None, send))  # type: ignore[arg-type]
    return sent


def test_a_handler_that_breaks_is_answered_for_unless_it_has_begun() -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    async def begins(scope: Any, receive: Any, send: Any) -> None:
        await failure(400, "x")(scope, receive, send)
        raise ZeroDivisionError

    assert answered(breaks)[0]["status"] == 500
    with pytest.raises(ZeroDivisionError):
        answered(begins)
