"""The page's routes of a canvas: opened, drawn on, listened to, taken along."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from muse_server.gallery import ID
from muse_server.refusals import NotFound, Refusal
from muse_server.web import streams
from muse_server.web.answers import a_number, asked_number, body_of
from muse_studio.sampling.arguments import LARGEST_SEED

if TYPE_CHECKING:
    from muse_server.canvases.sessions import Session
    from muse_server.desk import Desk

SESSION = "/api/sessions/{session}"
LISTED = 200
"""Sessions in one answer."""
SCALES = 8
"""How many times its size a picture is given at most."""


def routes(desk: Desk, closing: asyncio.Event) -> list[Route]:
    """Everything below /api/sessions; streams end when `closing` is set."""
    canvases = _Canvases(desk, closing)
    return [
        Route("/api/sessions", canvases.listed, methods=["GET"]),
        Route("/api/sessions", canvases.open, methods=["POST"]),
        Route("/api/sessions/file", canvases.read, methods=["POST"]),
        Route(SESSION, canvases.state, methods=["GET"]),
        Route(f"{SESSION}/actions", canvases.act, methods=["POST"]),
        Route(f"{SESSION}/accept", canvases.accept, methods=["POST"]),
        Route(f"{SESSION}/events", canvases.events, methods=["GET"]),
        Route(f"{SESSION}/image", canvases.image, methods=["GET"]),
        Route(f"{SESSION}/steps", canvases.steps, methods=["GET"]),
        Route(f"{SESSION}/file", canvases.file, methods=["GET"]),
    ]


class _Canvases:
    def __init__(self, desk: Desk, closing: asyncio.Event) -> None:
        self._desk, self._closing = desk, closing

    async def listed(self, request: Request) -> Response:
        limit = asked_number(request.query_params, "limit", 60, 1, LISTED)
        return JSONResponse(await self._desk.listed(request.query_params.get("before"), limit))

    async def open(self, request: Request) -> Response:
        asked = await body_of(request, "seed", "picture", "canvas")
        if asked.get("seed") is not None:
            a_number(asked["seed"], "seed", 0, LARGEST_SEED)
        for key in ("picture", "canvas"):
            if asked.get(key) is not None and not isinstance(asked[key], str):
                raise Refusal(f"{key}: expected an id", key)
        return await self._made(await self._desk.open(**asked))

    async def read(self, request: Request) -> Response:
        return await self._made(await self._desk.read(await request.body()))

    async def state(self, request: Request) -> Response:
        return JSONResponse(await self._desk.state(await self._session(request)))

    async def act(self, request: Request) -> Response:
        session, action = await self._session(request), await body_of(request)
        job = await self._desk.act(session, action)
        if job is None:
            return JSONResponse(await self._desk.state(session))
        waiting = self._desk.engine.queue()["waiting"]
        place = waiting.index(job.id) + 1 if job.id in waiting else 0
        return JSONResponse({"job": job.id, "place": place}, 202)

    async def accept(self, request: Request) -> Response:
        session, asked = await self._session(request), await body_of(request, "job", "index")
        if not isinstance(asked.get("job"), str):
            raise Refusal("job: expected the id of the drawing", "job")
        await self._desk.accept(session, asked["job"], a_number(asked.get("index"), "index"))
        return JSONResponse(await self._desk.state(session))

    async def events(self, request: Request) -> Response:
        after = streams.after(request)
        session = await self._session(request)
        return streams.stream(self._desk.events(session, after), self._closing)

    async def image(self, request: Request) -> Response:
        n = request.query_params.get("n")
        number = None if n is None else asked_number(request.query_params, "n", 0, 0, 2**31)
        scale = asked_number(request.query_params, "scale", 1, 1, SCALES)
        png = await self._desk.image(await self._session(request), number, scale)
        return Response(png, media_type="image/png")

    async def steps(self, request: Request) -> Response:
        number = asked_number(request.query_params, "n", 0, 0, 2**31)
        return JSONResponse(await self._desk.steps(await self._session(request), number))

    async def file(self, request: Request) -> Response:
        content = await self._desk.file(await self._session(request))
        named = {"content-disposition": 'attachment; filename="canvas.safetensors"'}
        return Response(content, media_type="application/octet-stream", headers=named)

    async def _session(self, request: Request) -> Session:
        id = request.path_params["session"]
        if not ID.fullmatch(id):
            raise NotFound("there is no such canvas")
        return await self._desk.session(id)

    async def _made(self, session: Session) -> Response:
        state: dict[str, Any] = await self._desk.state(session)
        return JSONResponse({"id": state["id"], "state": state}, 201)
