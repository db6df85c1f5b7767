"""Who may ask: tables of a request's head to the status of its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from muse_server.web.asked import check_names
from muse_server.web.guard import HEADERS, Guard

from muse_studio.errors import SettingError

PORT = 7860
US = f"127.0.0.1:{PORT}"
JSON = ("Content-Type", "application/json")


def guard(tiny: Any, **settings: Any) -> Guard:
    return Guard(tiny, **({"host": "127.0.0.1", "port": PORT} | settings))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost:7860", 200),
        ("LocalHost:7860", 200),
        ("[::1]:7860", 200),
        ("127.0.0.1", 403),
        ("localhost", 403),
        ("127.0.0.1:7861", 403),
        ("127.0.0.1:80", 403),
        ("127.0.0.1:07860", 403),
        ("127.0.0.1:7860.", 403),
        ("localhost.:7860", 403),
        ("127.0.0.1.nip.test:7860", 403),
        ("127.0.0.1.:7860", 403),
        ("localhost.attacker.test:7860", 403),
        ("attacker.test:7860", 403),
        ("attacker.test", 403),
        ("127.1:7860", 403),
        ("2130706433:7860", 403),
        ("0x7f.0.0.1:7860", 403),
        ("127.0.0.2:7860", 403),
        ("0.0.0.0:7860", 403),
        ("[::]:7860", 403),
        ("[::ffff:127.0.0.1]:7860", 403),
        ("::1:7860", 403),
        ("[::1%25lo]:7860", 403),
        ("user@127.0.0.1:7860", 403),
        ("127.0.0.1:7860@attacker.test", 403),
        ("127.0.0.1:7860,attacker.test", 403),
        ("attacker.test, 127.0.0.1:7860", 403),
        ("127.0.0.1:7860/", 403),
        ("127.0.0.1:7860#", 403),
        ("127.0.0.1:7860 ", 403),
        ("127.0.0.1 :7860", 403),
        ("127.0.0.1:\uff17860".encode().decode("latin-1"), 403),
        (":7860", 403),
        ("", 403),
    ],
)
def test_host_is_one_of_ours_exactly(asks: Any, tiny: Any, host: str, status: int) -> None:
    assert asks(guard(tiny), headers=[("Host", host)]).status == status
    assert len(tiny.seen) == (status == 200)


def test_a_host_with_no_port_is_ours_at_port_80_alone(asks: Any, tiny: Any) -> None:
    at_80 = guard(tiny, port=80)
    for host, status in [("127.0.0.1", 200), ("localhost", 200), ("localhost:80", 200), ("localhost:7860", 403)]:
        assert asks(at_80, headers=[("Host", host)], server=("127.0.0.1", 80)).status == status, host


def test_hosts_names_further_ones(asks: Any, tiny: Any) -> None:
    named = guard(tiny, hosts=["Studio.example", "proxy.example:8443"])
    expected = {
        "studio.example": 200,
        "studio.example:7860": 200,
        "studio.example:8443": 403,
        "proxy.example:8443": 200,
        "proxy.example": 403,
        "proxy.example:7860": 403,
        "other.example": 403,
    }
    assert {host: asks(named, headers=[("Host", host)]).status for host in expected} == expected


@pytest.mark.parametrize(
    ("reached", "host", "status"),
    [
        ("192.168.1.5", "192.168.1.5:7860", 200),  # the very address that was reached: no name was pointed there
        ("192.168.1.5", "192.168.1.6:7860", 403),
        ("192.168.1.5", "laptop.example:7860", 403),
        ("::ffff:192.168.1.5", "192.168.1.5:7860", 200),
        ("fe80::1%eth0", "[fe80::1]:7860", 200),
        ("attacker.test", "attacker.test:7860", 403),
    ],
)
def test_on_a_network_the_reached_address_is_a_name(asks: Any, tiny: Any, reached: str, host: str, status: int) -> None:
    open_to_all = guard(tiny, host="0.0.0.0", token="t" * 43)
    answer = asks(open_to_all, path="/", headers=[("Host", host)], server=(reached, PORT))
    assert answer.status == status


def test_a_host_where_it_listens_is_a_name(asks: Any, tiny: Any) -> None:
    assert asks(guard(tiny, host="laptop.local"), headers=[("Host", "laptop.local:7860")]).status == 200
    assert asks(guard(tiny, host="::1"), headers=[("Host", "[::1]:7860")]).status == 200
    assert asks(guard(tiny, host="0.0.0.0"), headers=[("Host", "0.0.0.0:7860")]).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Host", US), ("Host", US)],
        [("Host", US), ("Host", "attacker.test")],
        [("Host", US), ("Origin", f"http://{US}"), ("Origin", "http://attacker.test")],
        [("Host", US), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
        [("Host", US), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Mode", "cors")],
        [("Host", US), JSON, ("Content-Type", "text/plain")],
        [("Host", US), ("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
    ],
)
def test_what_decides_stands_there_once(asks: Any, tiny: Any, headers: list[tuple[str, str]]) -> None:
    assert asks(guard(tiny), headers=headers).status == 400
    assert not tiny.seen


def test_http_1_0_needs_a_host_too(asks: Any, tiny: Any) -> None:
    assert asks(guard(tiny), headers=[], version="1.0").status == 400


@pytest.mark.parametrize("target", ["http://attacker.test/api/queue", "*", "attacker.test:443", ""])
def test_a_target_begins_with_a_slash(asks: Any, tiny: Any, target: str) -> None:
    assert asks(guard(tiny), path=target).status == 400


@pytest.mark.parametrize(
    ("site", "origin", "status"),
    [
        (None, None, 200),  # a program
        ("none", None, 200),  # typed into the browser
        ("same-origin", None, 200),
        ("same-origin", f"http://{US}", 200),
        ("same-origin", "http://127.0.0.1", 200),  # what no page can forge decides
        ("none", "http://attacker.test", 200),
        ("same-site", f"http://{US}", 403),
        ("same-site", None, 403),
        ("same-site", "http://127.0.0.1:8899", 403),
        ("cross-site", None, 403),
        ("cross-site", f"http://{US}", 403),
        ("cross-site", "null", 403),
        ("Same-Origin", None, 403),
        ("", None, 403),
        ("anything", None, 403),
        ("same-origin, cross-site", None, 403),
        (None, f"http://{US}", 200),
        (None, f"HTTP://{US}", 200),
        (None, f"https://{US}", 403),
        (None, "http://localhost:7860", 403),  # another origin than the one asked
        (None, "http://127.0.0.1:8899", 403),
        (None, "http://127.0.0.1", 403),
        (None, "null", 403),
        (None, "", 403),
        (None, "http://attacker.test", 403),
        (None, f"http://{US}.attacker.test", 403),
        (None, f"http://attacker.test#{US}", 403),
        (None, f"http://{US}/", 403),
        (None, f"http://{US} http://attacker.test", 403),
        (None, US, 403),
        (None, "file://", 403),
        (None, "chrome-extension://abcdefghijklmnop", 403),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/queue"), ("POST", "/api/sessions"), ("DELETE", "/api/x")])
def test_no_page_of_another_origin_asks(
    asks: Any, tiny: Any, site: str | None, origin: str | None, status: int, method: str, path: str
) -> None:
    headers = [("Host", US), JSON]
    headers += [("Sec-Fetch-Site", site)] if site is not None else []
    headers += [("Origin", origin)] if origin is not None else []
    assert asks(guard(tiny), method, path, headers).status == status
    assert len(tiny.seen) == (status == 200)


NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize(
    ("method", "path", "changed", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/", {"Sec-Fetch-Site": "same-site"}, 200),
        ("GET", "/api/sessions/x/image", {}, 403),
        ("GET", "/page/app.js", {}, 403),
        ("GET", "//", {}, 403),
        ("HEAD", "/", {}, 403),
        ("POST", "/", {}, 403),
        ("GET", "/", {"Sec-Fetch-Dest": "iframe"}, 403),
        ("GET", "/", {"Sec-Fetch-Dest": "object"}, 403),
        ("GET", "/", {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"}, 403),
        ("GET", "/", {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", "/", {"Sec-Fetch-Mode": "no-cors"}, 403),
    ],
)
def test_a_link_elsewhere_opens_the_page_alone(
    asks: Any, tiny: Any, method: str, path: str, changed: dict[str, str], status: int
) -> None:
    headers = [("Host", US), JSON, *(NAVIGATION | changed).items()]
    assert asks(guard(tiny), method, path, headers).status == status


@pytest.mark.parametrize(
    ("path", "kind", "body", "status"),
    [
        ("/api/sessions", "application/json", b"{}", 200),
        ("/api/sessions", "Application/JSON; charset=utf-8", b"{}", 200),
        ("/api/sessions", None, b"{}", 415),
        ("/api/sessions", None, b"", 415),
        ("/api/sessions", "", b"{}", 415),
        ("/api/sessions", "text/plain", b"{}", 415),
        ("/api/sessions", "text/plain; application/json", b"{}", 415),
        ("/api/sessions", "text/plain;charset=application/json", b"{}", 415),
        ("/api/sessions", "application/json, text/plain", b"{}", 415),
        ("/api/sessions", "application/jsonp", b"{}", 415),
        ("/api/sessions", "application/x-www-form-urlencoded", b"a=b", 415),
        ("/api/sessions", "multipart/form-data; boundary=x", b"--x--", 415),
        ("/api/sessions", "application/octet-stream", b"x", 415),
        ("/api/sessions/file", "application/octet-stream", b"x", 200),
        ("/api/sessions/file", "multipart/form-data; boundary=x", b"x", 415),
        ("/api/pictures", "image/png", b"x", 200),
        ("/api/pictures", "image/jpeg", b"x", 200),
        ("/api/pictures", "image/webp", b"x", 200),
        ("/api/pictures", "image/svg+xml", b"x", 415),
        ("/api/pictures", "image/gif", b"x", 415),
        ("/v1/images/edits", "multipart/form-data; boundary=x", b"x", 200),
        ("/v1/images/edits", "image/png", b"x", 415),
        ("/v1/images/generations", "application/json", b"{}", 200),
        ("/v1/images/generations", "text/plain", b"{}", 415),
        ("/v1x/images", "multipart/form-data; boundary=x", b"x", 415),
        ("/sdapi/v1/txt2img", "application/json", b"{}", 200),
        ("/sdapi/v1/txt2img", "text/plain", b"{}", 415),
        ("/sdapi/v1/interrupt", None, b"", 200),
        ("/sdapi/v1/txt2img", None, b"{}", 415),
    ],
)
def test_what_changes_anything_has_a_kind_that_no_form_sends(
    asks: Any, tiny: Any, path: str, kind: str | None, body: bytes, status: int
) -> None:
    headers = [("Host", US), ("Content-Length", str(len(body)))]
    headers += [("Content-Type", kind)] if kind is not None else []
    assert asks(guard(tiny), "POST", path, headers, body).status == status


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get", "QUERY", "X" * 5000])
def test_other_methods_are_none(asks: Any, tiny: Any, method: str) -> None:
    answer = asks(guard(tiny), method)
    assert answer.status == 405
    assert len(answer.body) < 300


def test_there_is_no_cors_unless_an_origin_is_named(asks: Any, tiny: Any) -> None:
    preflight = [("Host", US), ("Origin", "https://notes.example"), ("Access-Control-Request-Method", "POST")]
    answer = asks(guard(tiny), "OPTIONS", headers=preflight)
    assert answer.status == 403
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert asks(guard(tiny), "OPTIONS", headers=[("Host", US)]).status == 405

    named = guard(tiny, origins=["https://notes.example"], token="t" * 43)
    answer = asks(named, "OPTIONS", headers=preflight)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "https://notes.example")
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    other = [("Host", US), ("Origin", "https://notes.example.attacker.test")]
    assert asks(named, "OPTIONS", headers=other).status == 403

    asked = [("Host", US), JSON, ("Origin", "https://notes.example"), ("Sec-Fetch-Site", "cross-site")]
    assert asks(named, "POST", headers=asked).status == 401
    answer = asks(named, "POST", headers=[*asked, ("Authorization", "Bearer " + "t" * 43)])
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://notes.example")


@pytest.mark.parametrize(
    ("hosts", "origins", "param"),
    [
        (["*"], [], "hosts"),
        (["http://a.example"], [], "hosts"),
        (["a.example/x"], [], "hosts"),
        ([""], [], "hosts"),
        (["a b"], [], "hosts"),
        ([], ["*"], "origins"),
        ([], ["null"], "origins"),
        ([], ["a.example"], "origins"),
        ([], ["http://a.example/"], "origins"),
        ([], ["file://"], "origins"),
    ],
)
def test_names_that_none_can_have_are_told(tiny: Any, hosts: list[str], origins: list[str], param: str) -> None:
    with pytest.raises(SettingError) as caught:
        guard(tiny, hosts=hosts, origins=origins)
    assert caught.value.setting == param
    check_names(["a.example", "[::1]:80", "10.0.0.5"], ["https://a.example", "http://a.example:8080"])


def test_every_answer_has_the_headers(asks: Any, tiny: Any) -> None:
    guarded = guard(tiny)
    answers = [
        asks(guarded, path="/"),
        asks(guarded),
        asks(guarded, headers=[]),
        asks(guarded, headers=[("Host", "attacker.test")]),
        asks(guarded, "PUT"),
        asks(guarded, "POST"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 400, 403, 405, 415]
    for answer in answers:
        assert HEADERS.items() <= answer.headers.items()
        assert "access-control-allow-origin" not in answer.headers
    assert "cache-control" not in answers[0].headers
    assert all(answer.headers["cache-control"] == "no-store" for answer in answers[1:])
    for answer in answers[2:]:
        assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}


def test_an_application_that_fails_is_answered_for(asks: Any) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("a secret")

    with pytest.raises(ValueError, match="secret"):
        asks(guard(failing))

    async def caught(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(ValueError, match="secret"):
            await guard(failing)(scope, receive, send)

    answer = asks(caught)
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert HEADERS.items() <= answer.headers.items()


def test_a_websocket_is_closed() -> None:
    import asyncio

    sent: list[Any] = []

    async def never(*_: Any) -> None:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(never)({"type": "websocket", "path": "/"}, never, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
