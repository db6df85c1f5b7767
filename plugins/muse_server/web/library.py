"""The page's other routes: the model and its parts, what is checked and written out, pictures, and the queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from muse_server import curves, dropped, parts, settings, written
from muse_server.gallery import ID, MOST
from muse_server.refusals import NotFound, Refusal
from muse_server.web.answers import a_number, a_text, asked_number, body_of
from muse_server.web.offered import Served, filters, stages
from muse_studio.sampling.arguments import LARGEST_SEED

if TYPE_CHECKING:
    from muse_server.desk import Desk

PICTURE = "/api/gallery/{picture}"
KNOWN = 8
"""Letters of a job's id that all may know: who knows the whole may cancel it."""


def routes(desk: Desk, served: Served) -> list[Route]:
    """Everything below /api but what is a canvas's."""
    library = _Library(desk, served)
    return [
        Route("/api/model", library.model, methods=["GET"]),
        Route("/api/parts", library.parts, methods=["GET"]),
        Route("/api/check", library.check, methods=["POST"]),
        Route("/api/curve", library.curve, methods=["POST"]),
        Route("/api/written", library.written, methods=["POST"]),
        Route("/api/queue", library.queue, methods=["GET"]),
        Route("/api/jobs/{job}", library.cancel, methods=["DELETE"]),
        Route("/api/pictures", library.take, methods=["POST"]),
        Route("/api/gallery", library.listed, methods=["GET"]),
        Route(PICTURE, library.picture, methods=["GET"]),
        Route(PICTURE, library.delete, methods=["DELETE"]),
        Route(f"{PICTURE}/thumbnail", library.thumbnail, methods=["GET"]),
    ]


class _Library:
    def __init__(self, desk: Desk, served: Served) -> None:
        self._desk, self._served = desk, served
        self._parts: dict[str, list[dict[str, Any]]] | None = None

    async def model(self, request: Request) -> Response:
        return JSONResponse(
            {
                "name": self._served.name.removeprefix("models/"),
                "recipe_name": self._served.name,
                "stages": stages(self._desk.model),
                "device": str(self._desk.model.device),
                "filters": filters(self._desk.model.hook),
                "editors": [each["name"] for each in (await self._all())["editor"]],
                "previews": self._desk.previews,
                "token": self._served.token is not None,
                "a1111": self._served.a1111,
                "limits": {"prompt": dropped.LONGEST, "count": dropped.MOST},
            }
        )

    async def parts(self, request: Request) -> Response:
        found = await self._all()
        kind = request.query_params.get("kind")
        if kind is None:
            return JSONResponse(found)
        if kind not in found:
            raise Refusal(f"kind: expected one of {', '.join(found)}", "kind")
        return JSONResponse(found[kind])

    async def check(self, request: Request) -> Response:
        asked = await body_of(request, "settings", "editor")
        given = asked.get("settings"), asked.get("editor")
        return JSONResponse({"problems": await asyncio.to_thread(settings.problems, self._desk.model, *given)})

    async def curve(self, request: Request) -> Response:
        asked = await body_of(request, "schedule")
        points = await asyncio.to_thread(curves.points, self._desk.model, asked.get("schedule"))
        return JSONResponse({"points": points})

    async def written(self, request: Request) -> Response:
        asked = await body_of(request, "session", "settings", "prompt", "negative", "seed")
        session = asked.get("session")
        if not isinstance(session, str) or not ID.fullmatch(session):
            raise NotFound("there is no such canvas")
        canvas = await self._desk.session(session)
        await asyncio.to_thread(settings.check, self._desk.model, asked.get("settings"))
        state = await self._desk.state(canvas)
        words: dict[str, Any] = {"prompt": a_text(asked.get("prompt", state["prompt"]), "prompt", dropped.LONGEST)}
        if asked.get("negative"):
            words["negative"] = a_text(asked["negative"], "negative", dropped.LONGEST)
        if asked.get("seed") is not None:
            words["seed"] = a_number(asked["seed"], "seed", 0, LARGEST_SEED)
        name = self._served.name
        yaml = written.as_yaml(name, words, asked.get("settings"))
        code = written.as_code(name, canvas.shot.canvas.seed, await self._desk.actions(canvas))
        return JSONResponse({"yaml": yaml, "code": code})

    async def queue(self, request: Request) -> Response:
        queue = self._desk.engine.queue()
        now = queue["now"] and queue["now"][:KNOWN]
        return JSONResponse(queue | {"now": now, "waiting": [each[:KNOWN] for each in queue["waiting"]]})

    async def cancel(self, request: Request) -> Response:
        job = request.path_params["job"]
        if not self._desk.cancel(job) and not self._desk.engine.ended(job):  # who stops it may be a moment late
            raise NotFound("there is no such job, or it ended long ago")
        return Response(status_code=204)

    async def take(self, request: Request) -> Response:
        content = await request.body()
        image = await asyncio.to_thread(dropped.opened, content)
        said = await asyncio.to_thread(dropped.said, content, self._desk.model)
        id = await self._desk.place_picture(image)
        return JSONResponse({"picture": id, "width": image.width, "height": image.height, "said": said}, 201)

    async def listed(self, request: Request) -> Response:
        query = request.query_params
        limit = asked_number(query, "limit", 60, 1, MOST)
        words = a_text(query.get("words", ""), "words", dropped.LONGEST)
        return JSONResponse(await asyncio.to_thread(self._desk.gallery.listed, words, query.get("before"), limit))

    async def picture(self, request: Request) -> Response:
        path = await asyncio.to_thread(self._desk.gallery.path, self._id(request))
        return FileResponse(path, media_type="image/png")

    async def thumbnail(self, request: Request) -> Response:
        content = await asyncio.to_thread(self._desk.gallery.thumbnail, self._id(request))
        return Response(content, media_type="image/webp")

    async def delete(self, request: Request) -> Response:
        await asyncio.to_thread(self._desk.gallery.delete, self._id(request))
        return Response(status_code=204)

    async def _all(self) -> dict[str, list[dict[str, Any]]]:
        """All parts that a client may name, by kind; read once, as a part is imported for it."""
        if self._parts is None:
            self._parts = await asyncio.to_thread(self._read)
        return self._parts

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        return {kind: parts.told(self._desk.model.registry.parts(kind)) for kind in parts.KINDS}

    def _id(self, request: Request) -> str:
        id: str = request.path_params["picture"]
        if not ID.fullmatch(id):
            raise NotFound("there is no such picture in the gallery")
        return id
