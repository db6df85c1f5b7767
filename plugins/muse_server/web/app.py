"""The application: the page and its routes, those of other programs, and the guard around them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from muse_server.dialects import a1111, openai
from muse_server.engine import Cancelled
from muse_server.web import library, sessions
from muse_server.web.answers import Faults, failed
from muse_server.web.guard import Guard
from muse_server.web.limits import Limited
from muse_server.web.offered import Served
from muse_studio.errors import UserError

if TYPE_CHECKING:
    from muse_server.desk import Desk

PAGE = Path(__file__).parents[1] / "page"
ASKED_AGAIN = {"cache-control": "no-cache"}
"""A browser that has a file asks whether it still holds: of two releases' modules no page can be made."""

__all__ = ["Served", "make_app"]


def make_app(desk: Desk, served: Served, closing: asyncio.Event | None = None) -> Starlette:
    """The whole application, with the guard around it; the desk is started and closed with it.

    closing: set where the server is about to end, for streams to end before.
    """
    closing = asyncio.Event() if closing is None else closing
    host, port, hosts, origins = served.host, served.port, served.hosts, served.origins
    middleware = [
        Middleware(Guard, host=host, port=port, hosts=hosts, origins=origins, token=served.token),
        Middleware(Limited),
        Middleware(Faults),
    ]

    @asynccontextmanager
    async def open_desk(app: Starlette) -> AsyncGenerator[None]:
        await desk.start()
        try:
            yield
        finally:
            closing.set()
            await desk.close()

    return Starlette(
        routes=_routes(desk, served, closing),
        middleware=middleware,
        exception_handlers={UserError: failed, Cancelled: failed, HTTPException: failed},
        lifespan=open_desk,
    )


def _routes(desk: Desk, served: Served, closing: asyncio.Event) -> list[BaseRoute]:
    return [
        Route("/", _index, methods=["GET"]),
        Mount("/page", _Modules(directory=PAGE), name="page"),
        *sessions.routes(desk, closing),
        *library.routes(desk, served),
        *openai.routes(desk, served.name, served.strict_model),
        *(a1111.routes(desk, served.name) if served.a1111 else []),
    ]


class _Modules(StaticFiles):
    """The page's files."""

    def file_response(self, *args: Any, **settings: Any) -> Response:
        """One of them, of the type that a browser runs, whatever this machine takes it for."""
        response = super().file_response(*args, **settings)
        response.headers.update(ASKED_AGAIN)
        if str(args[0]).endswith(".js"):
            response.headers["content-type"] = "text/javascript; charset=utf-8"
        return response


async def _index(request: Request) -> Response:
    """The page itself, whose modules are below /page."""
    return FileResponse(PAGE / "index.html", headers=ASKED_AGAIN)
