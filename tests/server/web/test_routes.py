"""Every route of the page: its answer, its refusals, and that none of them holds up the event loop."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from muse_server.desk import Desk
from muse_server.web.app import Served, make_app
from muse_server.web.connection import configured
from PIL import Image
from serving import serving, until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from watched import Watched

from muse_studio.sampling.editing.canvas import Canvas

DOCS = Path(__file__).parents[3] / "docs"
NOBODY = "a" * 22
APPLE = {"do": "generate", "prompt": "an apple", "seed": 7}


def drawn(http: httpx.Client, canvas: str, action: dict[str, Any] = APPLE) -> dict[str, Any]:
    """The state once an action has been drawn."""
    answer = http.post(f"{canvas}/actions", json=action)
    assert answer.status_code == 202, answer.text
    assert set(answer.json()) == {"job", "place"}
    return until(lambda: (state := http.get(canvas).json())["job"] is None and state)


def png(**settings: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(file, "PNG", **settings)
    return file.getvalue()


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_the_page_and_its_files(http: httpx.Client) -> None:
    page = http.get("/")
    assert page.headers["content-type"].startswith("text/html") and "muse studio" in page.text
    for file in re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text):
        found = http.get(file)
        assert found.status_code == 200 and found.headers["cache-control"] == "no-cache"
        kind = {"js": "text/javascript", "css": "text/css"}.get(file.rpartition(".")[2], "")
        assert found.headers["content-type"].startswith(kind)
    for path in ("/page/../task.py", "/page/%2e%2e/task.py", "/page/..%2ftask.py", "/page//etc/passwd", "/page/", "/x"):
        refused(http.get(path), 404)


def test_the_model(http: httpx.Client, desk: Desk) -> None:
    model = http.get("/api/model").json()
    assert (model["name"], model["recipe_name"], model["device"]) == ("emoji", "models/emoji", "cpu")
    assert model["stages"]["base"] | {"sampler": 0, "schedule": 0, "guidance": 0} == {
        "grid": [4, 4],
        "size": [16, 16],
        "steps": 4,
        "codes": 64,
        "sampler": 0,
        "schedule": 0,
        "guidance": 0,
    }
    assert (model["previews"], model["token"], model["a1111"], model["filters"]) == (True, False, True, [])
    assert model["limits"] == {"prompt": 2000, "count": 16} and "variations" in model["editors"]


def test_parts(http: httpx.Client) -> None:
    everything = http.get("/api/parts").json()
    assert list(everything) == ["sampler", "schedule", "guidance", "editor"]
    assert http.get("/api/parts?kind=sampler").json() == everything["sampler"]
    assert refused(http.get("/api/parts?kind=transformer"), 400)["param"] == "kind"


def test_checking_settings(http: httpx.Client) -> None:
    assert http.post("/api/check", json={"settings": {"base": {"sampler": "halton"}}}).json() == {"problems": []}
    told = http.post("/api/check", json={"settings": {"base": {"sampler": "haltn"}}, "editor": "inpant"}).json()
    assert [each["path"] for each in told["problems"]] == ["settings.base.sampler", "editor"]
    assert refused(http.post("/api/check", json={"recipe": "x"}), 400)["param"] == "recipe"


def test_a_canvas_is_opened_drawn_on_and_undone(http: httpx.Client, desk: Desk) -> None:
    made = http.post("/api/sessions", json={"seed": 5})
    assert made.status_code == 201 and set(made.json()) == {"id", "state"}
    canvas = f"/api/sessions/{made.json()['id']}"
    assert http.get(canvas).json() == made.json()["state"]
    state = drawn(http, canvas)
    assert (state["place"], state["prompt"]) == (1, "an apple")
    undone = http.post(f"{canvas}/actions", json={"do": "undo"})
    assert undone.status_code == 200 and (undone.json()["place"], undone.json()["redo"]) == (0, 1)
    (listed,) = http.get("/api/sessions").json()
    assert listed["id"] == made.json()["id"]
    assert http.get("/api/sessions?limit=1&before=" + listed["id"]).json() == []


def test_a_picture_is_the_one_that_the_canvas_draws_and_carries_no_secrets(http: httpx.Client, desk: Desk) -> None:
    canvas = f"/api/sessions/{http.post('/api/sessions', json={'seed': 5}).json()['id']}"
    drawn(http, canvas)
    answer = http.get(f"{canvas}/image?n=1")
    assert answer.headers["content-type"] == "image/png" and answer.headers["cache-control"] == "no-store"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.tobytes() == Canvas.of(desk.model, 5).generate("an apple", seed=7).image.tobytes()
    with Image.open(io.BytesIO(http.get(f"{canvas}/image?n=1&scale=2").content)) as picture:
        assert picture.size == (64, 64)
    assert refused(http.get(f"{canvas}/image?n=9"), 404)["param"] == "n"
    assert refused(http.get(f"{canvas}/image?scale=99"), 400)["param"] == "scale"
    assert refused(http.get(f"{canvas}/image?n=-1"), 400)["param"] == "n"


def test_variants_are_staged_and_one_is_taken(http: httpx.Client, canvas: str) -> None:
    state = drawn(http, canvas, APPLE | {"count": 3})
    assert (state["place"], len(state["staged"])) == (0, 3)
    accept = {"job": state["staged_job"], "index": 1}
    assert http.post(f"{canvas}/accept", json=accept).json()["place"] == 1
    refused(http.post(f"{canvas}/accept", json=accept), 404)
    assert refused(http.post(f"{canvas}/accept", json={"index": 1}), 400)["param"] == "job"
    assert refused(http.post(f"{canvas}/accept", json={"job": "j", "index": -1}), 400)["param"] == "index"


def test_steps_and_the_file_of_a_canvas(http: httpx.Client, canvas: str) -> None:
    state = drawn(http, canvas)
    steps = http.get(f"{canvas}/steps?n=1").json()["steps"]
    assert [each["stage"] for each in steps] == 4 * ["base"] + 6 * ["large"] and steps[-1]["grid"] == [8, 8]
    file = http.get(f"{canvas}/file")
    assert 'filename="canvas.safetensors"' in file.headers["content-disposition"]
    kind = {"content-type": "application/octet-stream"}
    again = http.post("/api/sessions/file", content=file.content, headers=kind)
    assert again.status_code == 201 and again.json()["state"]["grids"] == state["grids"]
    refused(http.post("/api/sessions/file", content=b"{}", headers=kind), 400)


def test_events_go_on_from_the_last_one_that_was_read(http: httpx.Client, canvas: str) -> None:
    def read(headers: dict[str, str], until: str) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        number = 0
        with http.stream("GET", f"{canvas}/events", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("event: "):
                    found.append((number, line[7:]))
                    if line[7:] == until:
                        return found
        raise AssertionError(found)

    (first,) = read({}, "state")
    drawn(http, canvas)
    after = read({"last-event-id": str(first[0])}, "done")
    assert after[-1][1] == "done" and [number for number, _ in after] == sorted({number for number, _ in after})
    assert read({"last-event-id": str(after[-1][0] - 1)}, "done") == after[-1:]
    refused(http.get(f"{canvas}/events", headers={"last-event-id": "x"}), 400)


def test_a_client_that_goes_leaves_no_listener(http: httpx.Client, desk: Desk, canvas: str) -> None:
    (session,) = desk._rooms
    with http.stream("GET", f"{canvas}/events") as answer:
        lines = answer.iter_lines()  # kept, as a generator that nobody has ends the stream
        next(lines)
        until(lambda: session.events.listeners == 1)
    assert until(lambda: session.events.listeners == 0)


def test_what_is_no_canvas_is_404(http: httpx.Client) -> None:
    for id in (NOBODY, "x", "..%2f..%2fetc", "a" * 23):
        for end in ("", "/events", "/image", "/steps", "/file"):
            refused(http.get(f"/api/sessions/{id}{end}"), 404)
        refused(http.post(f"/api/sessions/{id}/actions", json=APPLE), 404)
    refused(http.post("/api/sessions", json={"canvas": NOBODY}), 404)
    refused(http.post("/api/sessions", json={"canvas": "../../etc"}), 404)
    refused(http.post("/api/sessions", json={"picture": "p_x"}), 404)


def test_what_is_no_action_is_refused_with_its_field(http: httpx.Client, canvas: str) -> None:
    before = http.get(canvas).json()
    for wrong in ({}, {"do": "save"}, {"do": "erase", "region": "/etc/passwd"}, APPLE | {"seed": -1}, APPLE | {"x": 1}):
        refused(http.post(f"{canvas}/actions", json=wrong), 400)
    placed = APPLE | {"settings": {"base": {"sampler": {"use": "halton", "weights": "/etc/passwd"}}}}
    assert refused(http.post(f"{canvas}/actions", json=placed), 400)["param"] == "settings.base.sampler.weights"
    for wrong in ({"seed": -1}, {"seed": "7"}):
        assert refused(http.post("/api/sessions", json=wrong), 400)["param"] == "seed"
    assert refused(http.post("/api/sessions", json={"out": "x"}), 400)["param"] == "out"
    assert http.get(canvas).json() == before


def test_a_dropped_picture_is_kept_and_a_canvas_goes_on_from_it(http: httpx.Client, desk: Desk) -> None:
    taken = http.post("/api/pictures", content=png(), headers={"content-type": "image/png"})
    assert taken.status_code == 201
    assert taken.json() | {"picture": 0} == {"picture": 0, "width": 20, "height": 10, "said": None}
    made = http.post("/api/sessions", json={"picture": taken.json()["picture"]})
    assert made.json()["state"]["history"][0]["did"]["do"] == "place"
    canvas = f"/api/sessions/{made.json()['id']}"
    ours = http.post(
        "/api/pictures", content=http.get(f"{canvas}/image").content, headers={"content-type": "image/png"}
    )
    assert ours.json()["width"] == 32
    refused(http.post("/api/pictures", content=b"GIF89a", headers={"content-type": "image/png"}), 400)
    refused(http.post("/api/pictures", content=png(), headers={"content-type": "image/gif"}), 415)


def test_the_gallery(http: httpx.Client, canvas: str, tmp_path: Path) -> None:
    drawn(http, canvas)
    (kept,) = http.get("/api/gallery?words=APPLE").json()
    assert http.get("/api/gallery?words=pear").json() == [] == http.get(f"/api/gallery?before={kept['id']}").json()
    assert http.get(kept["image"]).content == http.get(f"{canvas}/image?n=1").content
    assert http.get(kept["thumbnail"]).headers["content-type"] == "image/webp"
    assert refused(http.get("/api/gallery?limit=0"), 400)["param"] == "limit"
    assert http.delete(kept["image"]).status_code == 204
    assert http.get("/api/gallery").json() == []
    for ask in (http.get, http.delete):
        refused(ask(kept["image"]), 404)
        refused(ask("/api/gallery/..%2f..%2fetc%2fpasswd"), 404)
    assert (tmp_path / "bin" / f"{kept['id']}.png").is_file()


def test_what_was_set_and_done_is_written_out(http: httpx.Client, canvas: str) -> None:
    drawn(http, canvas)
    asked = {"session": canvas.rpartition("/")[2], "settings": {"base": {"sampler": {"use": "halton"}}}, "seed": 9}
    told = http.post("/api/written", json=asked).json()
    assert "use: halton" in told["yaml"] and "prompt: an apple" in told["yaml"] and "seed: 9" in told["yaml"]
    assert "canvas.generate('an apple', seed=7)" in told["code"] and "seed=5)" in told["code"]
    assert refused(http.post("/api/written", json=asked | {"settings": {"x": {}}}), 400)["param"] == "settings.x"
    assert refused(http.post("/api/written", json=asked | {"prompt": "x" * 3000}), 400)["param"] == "prompt"
    refused(http.post("/api/written", json={"session": "x"}), 404)


def test_the_queue_names_no_job_that_others_could_cancel(http: httpx.Client, canvas: str) -> None:
    assert http.get("/api/queue").json() == {"now": None, "waiting": [], "mean_seconds": None}
    drawn(http, canvas)
    assert http.get("/api/queue").json()["mean_seconds"] > 0
    refused(http.delete("/api/jobs/j_none"), 404)


def test_who_stops_a_drawing_a_moment_late_has_it_stopped(http: httpx.Client, canvas: str) -> None:
    job = http.post(f"{canvas}/actions", json=APPLE).json()["job"]
    until(lambda: http.get(canvas).json()["job"] is None)
    assert [http.delete(f"/api/jobs/{job}").status_code for _ in range(2)] == [204, 204]


def test_an_error_of_ours_is_told_to_the_log_and_not_to_the_client(http, desk, monkeypatch, caplog) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("in /srv/ann/secret.py")

    monkeypatch.setattr(desk.gallery, "listed", broken)
    error = refused(http.get("/api/gallery"), 500)
    assert error["type"] == "server_error" and "secret" not in json.dumps(error)
    until(lambda: "ZeroDivisionError" in caplog.text)


# all routes at once


def flat(desk: Desk) -> list[tuple[str, str]]:
    """Method and path of every route."""
    app = make_app(desk, Served("models/emoji", "127.0.0.1", 7860, a1111=True))
    found: list[tuple[str, str]] = []
    for route in app.routes:
        if isinstance(route, Mount):
            found.append(("GET", f"{route.path}/{{file}}"))
        else:
            assert isinstance(route, Route) and route.methods is not None
            found += [(method, route.path) for method in sorted(route.methods - {"HEAD"})]
    return found


def documented() -> set[tuple[str, str]]:
    """Method and path of each route in the tables of the pages, in the words of the routes."""
    text = "".join((DOCS / page).read_text("utf-8") for page in ("studio-protocol.md", "server.md"))
    return set(re.findall(r"^\| `(GET|POST|DELETE) (/[^`?\s]*)", text, re.MULTILINE))


def test_every_route_stands_in_a_table_of_the_documentation_and_no_other_does(desk: Desk) -> None:
    routes = flat(desk)
    assert len(routes) == len(set(routes)) > 30
    assert set(routes) - {("POST", "/api/token")} == documented() - {("POST", "/api/token")}


def test_no_route_answers_without_the_guard(http: httpx.Client, desk: Desk) -> None:
    for method, path in flat(desk):
        address = re.sub(r"\{[^}]*\}", NOBODY, path)
        headers = {"content-type": "application/json"} if method == "POST" else {}
        foreign = {"host": "rebound.test:7860"}, {"origin": "null"}, {"sec-fetch-site": "same-site"}
        for each in foreign:
            assert http.request(method, address, headers=headers | each).status_code == 403, (method, address, each)


def test_no_handler_touches_torch_or_pillow_on_the_event_loop(http, watched: Watched, canvas: str) -> None:
    drawn(http, canvas)
    drawn(http, canvas, {"do": "reroll", "region": {"boxes": [[0, 0, 8, 8]]}, "count": 2})
    for action in ({"do": "discard"}, {"do": "erase", "region": None}, {"do": "undo"}, {"do": "redo"}, {"do": "undo"}):
        assert http.post(f"{canvas}/actions", json=action).status_code == 200
    picture = http.post("/api/pictures", content=png(), headers={"content-type": "image/png"}).json()["picture"]
    http.post("/api/sessions", json={"picture": picture}).raise_for_status()
    http.post("/api/sessions", json={"canvas": canvas.rpartition("/")[2]}).raise_for_status()
    for path in (canvas, f"{canvas}/image?n=1", f"{canvas}/image?n=1&scale=3", f"{canvas}/steps?n=1", f"{canvas}/file"):
        http.get(path).raise_for_status()
    kept = http.get("/api/gallery").json()[0]
    for path in (kept["image"], kept["thumbnail"], "/api/model", "/api/parts", "/api/queue", "/api/sessions"):
        http.get(path).raise_for_status()
    http.post("/api/check", json={"settings": {"base": {"sampler": "halton"}}}).raise_for_status()
    http.post("/api/written", json={"session": canvas.rpartition("/")[2]}).raise_for_status()
    http.post("/v1/images/generations", json={"prompt": "x", "size": "64x64"}).raise_for_status()
    http.post("/sdapi/v1/txt2img", json={"prompt": "x"}).raise_for_status()
    assert watched.caught == [] and watched.elsewhere > 0


def test_what_would_touch_them_there_is_seen() -> None:
    async def careless(request: Request) -> Response:
        torch.zeros(2) + 1
        Image.open(io.BytesIO(png())).load()
        return Response()

    watched = Watched()
    app = Starlette(routes=[Route("/", careless)])
    with serving(lambda port: configured(watched.within(app))) as port:
        httpx.get(f"http://127.0.0.1:{port}/").raise_for_status()
    assert {"torch's zeros", "pillow's open", "pillow's load"} <= set(watched.caught)


@pytest.mark.parametrize("path", ["/api/queue", "/api/model"])
def test_others_are_answered_while_a_picture_is_drawn(http: httpx.Client, canvas: str, path: str) -> None:
    http.get(path).raise_for_status()
    job = http.post(f"{canvas}/actions", json=APPLE | {"count": 16}).json()["job"]
    begun = time.monotonic()
    http.get(path).raise_for_status()
    assert time.monotonic() - begun < 5
    assert http.delete(f"/api/jobs/{job}").status_code == 204
    until(lambda: http.get(canvas).json()["job"] is None)
