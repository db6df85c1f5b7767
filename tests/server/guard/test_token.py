"""A server on a network asks for its token, of browsers by a cookie and of programs by a header."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest
from muse_server.web import token as tokens
from muse_server.web.guard import HEADERS, Guard

PORT = 7860
US = ("Host", f"127.0.0.1:{PORT}")
JSON = ("Content-Type", "application/json")
TOKEN = "rEYbNxqVwtqsZ3uHzSCUKRkXoB9mWeyLgqM0fFd4Gq8"


def guard(tiny: Any, token: str | None = TOKEN) -> Guard:
    return Guard(tiny, host="0.0.0.0", port=PORT, token=token)


def cookie(asks: Any, tiny: Any, token: str = TOKEN) -> str:
    """What the page's browser is given for a token."""
    body = json.dumps({"token": token}).encode()
    answer = asks(guard(tiny, token), "POST", "/api/token", [US, JSON], body)
    assert (answer.status, answer.body) == (204, b"")
    return answer.headers["set-cookie"]


@pytest.mark.parametrize("path", ["/api/queue", "/v1/models", "/sdapi/v1/options", "/api/token", "/pages", "//", "/x"])
def test_nothing_but_the_page_goes_without(asks: Any, tiny: Any, path: str) -> None:
    if path != "/api/token":
        answer = asks(guard(tiny), path=path, headers=[US])
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(answer.body)["error"]["code"] == "invalid_api_key"
        assert HEADERS.items() <= answer.headers.items()
    assert asks(guard(tiny), "POST", path, [US, JSON], b"{}").status == 401
    assert not tiny.seen


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css"])
def test_the_page_itself_goes_without(asks: Any, tiny: Any, path: str) -> None:
    assert asks(guard(tiny), path=path, headers=[US]).status == 200
    assert asks(guard(tiny), "POST", path, [US, JSON]).status == 401


def _basic(said: str) -> str:
    return "Basic " + base64.b64encode(said.encode()).decode()


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("/v1/models", f"Bearer {TOKEN}", 200),
        ("/v1/models", f"bearer  {TOKEN} ", 200),
        ("/v1/models", TOKEN, 401),
        ("/v1/models", "Bearer", 401),
        ("/v1/models", "Bearer ", 401),
        ("/v1/models", f"Bearer {TOKEN}x", 401),
        ("/v1/models", f"Bearer {TOKEN[:-1]}", 401),
        ("/v1/models", f"Bearer {TOKEN.lower()}", 401),
        ("/v1/models", "Bearer \xff\xfe", 401),
        ("/v1/models", f"Token {TOKEN}", 401),
        ("/v1/models", _basic(f"user:{TOKEN}"), 401),
        ("/sdapi/v1/options", _basic(f"user:{TOKEN}"), 200),
        ("/sdapi/v1/options", _basic(f":{TOKEN}"), 200),
        ("/sdapi/v1/options", _basic(f"{TOKEN}:"), 401),
        ("/sdapi/v1/options", _basic(TOKEN), 401),
        ("/sdapi/v1/options", "Basic \xff", 401),
        ("/sdapi/v1/options", "Basic !!!!", 401),
        ("/sdapi/v1/options", f"Bearer {TOKEN}", 200),
    ],
)
def test_programs_send_a_header(asks: Any, tiny: Any, path: str, said: str, status: int) -> None:
    assert asks(guard(tiny), path=path, headers=[US, ("Authorization", said)]).status == status


@pytest.mark.parametrize("token", [TOKEN, "a word; with = what, no cookie\ttakes", "Schlüssel-für-alle-無"])
def test_the_page_gets_a_cookie_that_no_script_reads(asks: Any, tiny: Any, token: str) -> None:
    given = cookie(asks, tiny, token)
    pair, *rules = given.split("; ")
    assert sorted(rules) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    assert pair.startswith(f"muse_{PORT}=")
    assert token not in given  # it is not the token itself that stands in the browser's jar
    for jar, status in {
        pair: 200,
        f"other=1; {pair}; more=2": 200,
        f"muse_{PORT}=wrong; {pair}": 200,
        pair.replace(str(PORT), "7861"): 401,
        pair[:-1]: 401,
        pair.upper(): 401,
        f"muse_{PORT}=": 401,
        f"muse_{PORT}={TOKEN}": 401,
        "\xff\xfe;;;===": 401,
        "": 401,
    }.items():
        assert asks(guard(tiny, token), headers=[US, ("Cookie", jar)]).status == status, jar
    assert asks(guard(tiny, token), headers=[US, ("Cookie", "a=b"), ("Cookie", pair)]).status == 200


def test_a_cookie_does_not_stand_for_its_page(asks: Any, tiny: Any) -> None:
    pair = cookie(asks, tiny).partition(";")[0]
    for more in [("Origin", "http://127.0.0.1:8899")], [("Sec-Fetch-Site", "same-site")]:
        assert asks(guard(tiny), "POST", "/api/sessions", [US, JSON, ("Cookie", pair), *more]).status == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (json.dumps({"token": "wrong"}), 401),
        (json.dumps({"token": TOKEN + "\0"}), 401),
        (json.dumps({"token": None}), 401),
        (json.dumps({"token": [TOKEN]}), 401),
        (json.dumps([TOKEN]), 401),
        (json.dumps({"token": "\ud800"}), 401),
        ("", 401),
        ("{", 401),
        ("[" * 4000, 401),
        (json.dumps({"token": TOKEN, "more": "x" * 5000}), 401),  # longer than any that the page sends
        (json.dumps({"token": TOKEN}), 204),
    ],
)
def test_what_is_sent_for_the_cookie_is_the_token(asks: Any, tiny: Any, body: str, status: int) -> None:
    answer = asks(guard(tiny), "POST", "/api/token", [US, JSON], body.encode())
    assert answer.status == status
    assert ("set-cookie" in answer.headers) == (status == 204)
    assert not tiny.seen


def test_the_cookie_is_given_to_our_page_alone(asks: Any, tiny: Any) -> None:
    body = json.dumps({"token": TOKEN}).encode()
    for headers, status in [
        ([US, ("Content-Type", "text/plain")], 415),
        ([US, JSON, ("Origin", "http://attacker.test")], 403),
        ([("Host", "attacker.test:7860"), JSON], 403),
    ]:
        answer = asks(guard(tiny), "POST", "/api/token", headers, body)
        assert (answer.status, "set-cookie" in answer.headers) == (status, False)


def test_without_a_token_the_page_may_ask_all_the_same(asks: Any, tiny: Any) -> None:
    answer = asks(guard(tiny, None), "POST", "/api/token", [US, JSON], b'{"token": "of yesterday"}')
    assert (answer.status, "set-cookie" in answer.headers) == (204, False)


def test_it_is_compared_in_equal_time(asks: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    honest = tokens.hmac.compare_digest

    def watched(given: bytes, right: bytes) -> bool:
        compared.append(given)
        return honest(given, right)

    pair = cookie(asks, tiny).partition(";")[0]
    monkeypatch.setattr(tokens.hmac, "compare_digest", watched)
    asks(guard(tiny), headers=[US, ("Authorization", "Bearer one")])
    asks(guard(tiny), path="/sdapi/x", headers=[US, ("Authorization", _basic("a:two"))])
    asks(guard(tiny), headers=[US, ("Cookie", pair)])
    asks(guard(tiny), "POST", "/api/token", [US, JSON], b'{"token": "three"}')
    assert compared == [b"one", b"two", pair.partition("=")[2].encode(), b"three"]


def test_no_log_has_it(asks: Any, tiny: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asks(guard(tiny), headers=[US, ("Authorization", f"Bearer {TOKEN}")])
    asks(guard(tiny), headers=[US, ("Authorization", f"Bearer x{TOKEN}")])
    cookie(asks, tiny)
    asks(guard(tiny), "POST", "/api/token", [US, JSON], json.dumps({"token": TOKEN + "x"}).encode())
    assert TOKEN not in caplog.text
