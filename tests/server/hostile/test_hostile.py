"""Pages of others, in a real browser, against a studio: each attack works where there is no guard, and fails by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from muse_server.web.asked import Asked
from playwright.sync_api import Error, Page
from serving import until

BODY = json.dumps({"seed": 7})
TABLE = {"content-type": "application/json"}

FETCH = """([to, how]) => fetch(to, {method: "POST", ...how}).then(
    async answer => answer.type === "opaque" ? "opaque" : [answer.status, await answer.text()],
    () => "failed")"""

FORM = """([to, inside]) => {
    const form = document.createElement("form");
    Object.assign(form, {action: to, method: "post", enctype: "text/plain", target: inside});
    document.body.append(form);
    form.submit();
}"""

FRAME = """([name, html, rules]) => new Promise(done => {
    const frame = document.createElement("iframe");
    [frame.name, frame.srcdoc, frame.onload] = [name, html, () => done()];
    if (rules !== null) frame.sandbox = rules;
    document.body.append(frame);
})"""


def _text(page: Page, to: str) -> None:
    """A request that asks no leave, as its text could be a form's."""
    kind = {"content-type": "text/plain"}
    page.evaluate(FETCH, [to, {"mode": "no-cors", "credentials": "include", "headers": kind, "body": BODY}])


def _no_kind(page: Page, to: str) -> None:
    """Bytes of no kind at all."""
    page.evaluate(FETCH.replace("...how", "mode: 'no-cors', body: new Uint8Array(how)"), [to, list(BODY.encode())])


def _form(page: Page, to: str) -> None:
    name = f"inside-{len(page.frames)}"
    page.evaluate(FRAME, [name, "", None])
    page.evaluate(FORM, [to, name])


def _sandboxed(page: Page, to: str) -> None:
    """From a frame that has no origin: `Origin: null`."""
    script = f"({FETCH})([{json.dumps(to)}, {json.dumps({'mode': 'no-cors', 'body': BODY})}])"
    page.evaluate(FRAME, ["sandbox", f"<script>{script}</script>", "allow-scripts"])


def _beacon(page: Page, to: str) -> None:
    page.evaluate("([to, body]) => navigator.sendBeacon(to, body)", [to, BODY])


WAYS = [_text, _no_kind, _form, _sandboxed, _beacon]


def tried(way: Any, page: Page, studio: Any) -> Any:
    """How the studio answered an attack: the browser itself does not tell its page."""
    before = len(studio.answers)
    way(page, f"{studio.address}/api/sessions")
    return until(lambda: [each for each in studio.answers[before:] if each.path == "/api/sessions"])[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_page_elsewhere_makes_it_do_nothing(evil: Page, open_to_all: Any, guarded: Any, way: Any) -> None:
    before = open_to_all.done
    assert tried(way, evil, open_to_all).status == 201
    assert open_to_all.done == before + 1  # the attack is one

    before = guarded.done
    assert tried(way, evil, guarded).status == 403
    assert guarded.done == before


@pytest.mark.parametrize("way", WAYS)
def test_neither_where_a_browser_tells_the_origin_alone(
    evil: Page, open_to_all: Any, guarded: Any, way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Sec-Fetch-Site, as in plain HTTP on a network."""
    honest = Asked.of

    def older(scope: Any) -> Asked:
        return honest({**scope, "headers": [each for each in scope["headers"] if not each[0].startswith(b"sec-")]})

    monkeypatch.setattr(Asked, "of", older)
    for studio, status in [(open_to_all, 201), (guarded, 403)]:
        before = studio.done
        answer = tried(way, evil, studio)
        assert (answer.status, studio.done - before) == (status, int(status == 201))
        assert (answer.head["origin"] == "null") == (way is _sandboxed)


def test_a_page_elsewhere_reads_nothing(evil: Page, open_to_all: Any, guarded: Any) -> None:
    """By no script, picture or style sheet of it, and by leave that it asks for neither."""
    for studio, loads in [(open_to_all, "loaded"), (guarded, "failed")]:
        to = f"{studio.address}/page/theme.js"
        load = """to => new Promise(done => {
            const script = document.createElement("script");
            Object.assign(script, {src: to, type: "text/plain-not", onload: () => done("loaded")});
            const link = document.createElement("link");
            Object.assign(link, {rel: "stylesheet", href: to.replace("theme.js", "style.css")});
            [link.onload, link.onerror] = [() => done("loaded"), () => done("failed")];
            document.head.append(link);
        })"""
        assert evil.evaluate(load, to) == loads
        before = studio.done
        asked = [f"{studio.address}/api/sessions", {"headers": TABLE, "body": BODY}]
        assert evil.evaluate(FETCH, asked) == "failed"
        assert studio.done == before  # the browser asked for leave first, and got none


def test_a_name_that_is_pointed_here_reads_nothing(page: Page, open_to_all: Any, guarded: Any) -> None:
    """DNS rebinding: to the browser, the studio and the attacker's page are then of one origin."""
    to = f"http://rebound.test:{open_to_all.port}"
    answer = page.goto(f"{to}/")
    assert answer is not None and answer.status == 200
    status, said = page.evaluate(FETCH, [f"{to}/api/sessions", {"headers": TABLE, "body": BODY}])
    assert (status, "id" in json.loads(said)) == (201, True)

    to = f"http://rebound.test:{guarded.port}"
    before = guarded.done
    for path in ("/", "/api/queue", "/page/app.js", "/v1/models"):
        answer = page.goto(f"{to}{path}")
        assert answer is not None and answer.status == 403
    status, said = page.evaluate(FETCH, [f"{to}/api/sessions", {"headers": TABLE, "body": BODY}])
    assert (status, guarded.done) == (403, before)


def test_no_page_shows_it_in_a_frame(evil: Page, open_to_all: Any, guarded: Any) -> None:
    for studio, shown in [(open_to_all, True), (guarded, False)]:
        for path in ("/", "/page/index.html"):
            evil.evaluate(
                """to => new Promise(done => {
                    const frame = document.createElement("iframe");
                    [frame.src, frame.onload] = [to, () => done()];
                    document.body.append(frame);
                })""",
                f"{studio.address}{path}",
            )
            inside = evil.frames[-1]
            assert ("muse studio" in (inside.title() if inside.url.startswith("http") else "")) == shown, path


def test_its_policy_alone_keeps_it_out_of_frames(page: Page, attacker: int, guarded: Any) -> None:
    """Where a browser does not say that it is for a frame."""
    answer = page.request.get(f"{guarded.address}/")
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    page.route("**/framed", lambda route: route.fulfill(body="<p>in a frame", headers={"content-type": "text/html"}))
    page.goto(f"http://127.0.0.1:{attacker}/")
    load = """to => new Promise(done => {
        const frame = document.createElement("iframe");
        [frame.src, frame.onload] = [to, () => done()];
        document.body.append(frame);
    })"""
    page.evaluate(load, f"{guarded.address}/framed")
    assert page.frames[-1].content().count("in a frame") == 1
    page.unroute("**/framed")
    kind = {"content-type": "text/html", "content-security-policy": policy}
    page.route("**/framed", lambda route: route.fulfill(body="<p>in a frame", headers=kind))
    page.evaluate(load, f"{guarded.address}/framed")
    try:
        assert "in a frame" not in page.frames[-1].content()
    except Error:
        assert page.frames[-1].url.startswith("chrome-error:")


def test_a_link_elsewhere_opens_the_page_and_nothing_else(evil: Page, guarded: Any) -> None:
    here = evil.url
    follow = "to => { location.href = to; }"
    for path, status in [("/api/queue", 403), ("/page/index.html", 403), ("/", 200)]:
        evil.goto(here)
        with evil.expect_navigation(url=f"{guarded.address}{path}") as opened:
            evil.evaluate(follow, f"{guarded.address}{path}")
        assert opened.value is not None
        assert opened.value.status == status


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_its_own_page_may_do_all(page: Page, guarded: Any, name: str) -> None:
    """The guard is no wall: the very same requests pass from where they should come."""
    to = f"http://{name}:{guarded.port}"
    page.goto(f"{to}/")
    before = guarded.done
    status, _ = page.evaluate(FETCH, [f"{to}/api/sessions", {"headers": TABLE, "body": BODY}])
    assert status == 201
    assert guarded.done > before


def test_a_cookie_of_a_class_is_of_no_use_to_another_page(page: Page, attacker: int, classroom: Any) -> None:
    """The browser sends it along from another port of the same host, as cookies know no ports."""
    page.goto(f"{classroom.address}/")
    status, _ = page.evaluate(
        FETCH, [f"{classroom.address}/api/token", {"headers": TABLE, "body": json.dumps({"token": "t" * 43})}]
    )
    assert status == 204
    assert page.evaluate("document.cookie") == ""
    asked = [f"{classroom.address}/api/sessions", {"headers": TABLE, "body": BODY}]
    assert page.evaluate(FETCH, asked)[0] == 201

    page.goto(f"http://127.0.0.1:{attacker}/")
    before = classroom.done
    answer = tried(_text, page, classroom)
    assert (answer.status, classroom.done) == (403, before)
    assert f"muse_{classroom.port}=" in answer.head["cookie"]  # or the attack was none
