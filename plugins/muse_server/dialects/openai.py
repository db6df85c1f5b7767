"""OpenAI's images API: generations, edits, variations and models, as the `openai` client and its kin ask for them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from muse_server.dialects import asking, telling
from muse_server.dialects.forms import Fields, read_form, read_json
from muse_server.dialects.streams import GONE, gone, stream, until
from muse_server.drawings import Drawing
from muse_server.refusals import NotFound

if TYPE_CHECKING:
    from muse_server.desk import Desk

VARIATIONS = {"use": "variations"}
"""The editor that makes variations, where a client names no other."""
_log = logging.getLogger(__name__)


class UnknownModel(NotFound):
    """No model of this name is served."""

    code = "model_not_found"


def routes(desk: Desk, name: str, strict_model: bool = False) -> list[Route]:
    """Everything below /v1/; `name` is the served model's, and strict_model refuses all other names."""
    images = _Images(desk, name, strict_model)
    return [
        Route("/v1/images/generations", images.generate, methods=["POST"]),
        Route("/v1/images/edits", images.edit, methods=["POST"]),
        Route("/v1/images/variations", images.vary, methods=["POST"]),
        Route("/v1/models", images.models, methods=["GET"]),
        Route("/v1/models/{id:path}", images.model, methods=["GET"]),
    ]


class _Images:
    """Each request is one Drawing of the desk, which ends when its client goes."""

    def __init__(self, desk: Desk, name: str, strict_model: bool) -> None:
        self._desk, self._name, self._strict = desk, name, strict_model
        self._since = int(time.time())

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._check_model(request.path_params["id"], strict=True)
        return JSONResponse(self._model())

    async def generate(self, request: Request) -> Response:
        fields = await read_json(request)
        return await self._answer(request, fields, "image_generation", asking.drawing(fields, asking.prompt(fields)))

    async def edit(self, request: Request) -> Response:
        fields = await read_form(request)
        drawing = asking.drawing(fields, asking.prompt(fields))
        image, region = await asyncio.to_thread(asking.given, fields)
        drawing = replace(drawing, picture=image, region=region, editor=asking.part(fields, "editor"))
        return await self._answer(request, fields, "image_edit", drawing)

    async def vary(self, request: Request) -> Response:
        fields = await read_form(request)
        drawing = asking.drawing(fields, fields.text("prompt", asking.LONGEST_PROMPT))
        image, region = await asyncio.to_thread(asking.given, fields)
        editor = asking.part(fields, "editor") or VARIATIONS
        drawing = replace(drawing, picture=image, region=region, editor=editor)
        return await self._answer(request, fields, "image_edit", drawing)

    async def _answer(self, request: Request, fields: Fields, act: telling.Act, drawing: Drawing) -> Response:
        self._check_model(fields.text("model"), self._strict)
        quality = fields.text("quality")
        told = telling.Told(
            kind=asking.kind(fields),
            compression=fields.whole("output_compression", 0, 100, 100),
            quality=quality if quality in telling.QUALITIES else telling.AUTO,
        )
        streaming = fields.flag("stream")
        drawn = self._desk.draw(owner_of(request, fields.text("user")), drawing)
        if streaming:
            return await stream(request, telling.events(drawn, act, told))
        answer = await until(telling.whole(drawn, told), gone(request))
        return JSONResponse(answer) if answer is not None else Response(status_code=GONE)

    def _model(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": self._since, "owned_by": "muse_studio"}

    def _check_model(self, asked: str, strict: bool) -> None:
        if asked in ("", self._name):
            return
        if strict:
            raise UnknownModel(f"the model {asked[:80]!r} does not exist; {self._name} is served", "model")
        _log.info("the model %r was asked for; %s draws", asked[:80], self._name)


def owner_of(request: Request, user: str = "") -> str:
    """Who waits in turn with the others: a client's address, and the user that it draws for, where it says so."""
    return f"{request.client.host if request.client else ''} {user}".strip()
