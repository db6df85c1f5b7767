"""A small part of A1111's API, for programs that were written for it: nothing is fetched, no script is run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from muse_server.dialects import pictures, scripts
from muse_server.dialects.forms import Fields, Invalid, read_json
from muse_server.dialects.openai import owner_of
from muse_server.dialects.running import Run, Runs
from muse_server.dialects.streams import gone, until
from muse_server.drawings import Advanced, Drawing, Finished, Partial
from muse_server.dropped import said

if TYPE_CHECKING:
    from muse_server.desk import Desk


def routes(desk: Desk, name: str) -> list[Route]:
    """Everything below /sdapi/v1/; `name` is the served model's."""
    spoken = _Spoken(desk, name)
    posted = {
        "txt2img": spoken.draw,
        "img2img": spoken.redraw,
        "interrupt": spoken.interrupt,
        "options": spoken.set_options,
        "png-info": spoken.png_info,
    }
    read = {
        "progress": spoken.progress,
        "options": spoken.options,
        "sd-models": spoken.models,
        "samplers": spoken.samplers,
    }
    return [
        *(Route(f"/sdapi/v1/{path}", endpoint, methods=["GET"]) for path, endpoint in read.items()),
        *(Route(f"/sdapi/v1/{path}", endpoint, methods=["POST"]) for path, endpoint in posted.items()),
    ]


class _Spoken:
    """What goes on is told to whom it is drawn for alone, and is interrupted by no other."""

    def __init__(self, desk: Desk, name: str) -> None:
        self._desk, self._name, self._runs = desk, name, Runs()

    async def draw(self, request: Request) -> Response:
        fields = await read_json(request)
        return await self._answer(request, fields, await self._drawing(fields))

    async def redraw(self, request: Request) -> Response:
        fields = await read_json(request)
        drawing = await self._drawing(fields)
        image, region, editor = await asyncio.to_thread(scripts.given, fields)
        return await self._answer(request, fields, replace(drawing, picture=image, region=region, editor=editor))

    async def interrupt(self, request: Request) -> Response:
        self._runs.stop(owner_of(request))
        return JSONResponse({})

    async def progress(self, request: Request) -> Response:
        told, image = self._runs.told(owner_of(request))
        if image is not None and request.query_params.get("skip_current_image", "false").lower() != "true":
            told["current_image"] = await asyncio.to_thread(pictures.base64_of, image)
        return JSONResponse(told)

    async def options(self, request: Request) -> Response:
        return JSONResponse({"sd_model_checkpoint": self._name, "samples_format": "png"})

    async def set_options(self, request: Request) -> Response:
        self._check_model((await read_json(request)).values)
        return JSONResponse({})

    async def models(self, request: Request) -> Response:
        model = {"title": self._name, "model_name": self._name, "hash": None, "sha256": None}
        return JSONResponse([model | {"filename": "", "config": None}])

    async def samplers(self, request: Request) -> Response:
        names = await asyncio.to_thread(self._samplers)
        return JSONResponse([{"name": name, "aliases": [], "options": {}} for name in names])

    async def png_info(self, request: Request) -> Response:
        fields = await read_json(request)
        words = await asyncio.to_thread(self._read, fields.values.get("image"))
        return JSONResponse({"info": words, "items": {"parameters": words} if words else {}, "parameters": {}})

    def _read(self, image: Any) -> str:
        content = pictures.from_base64(image, "image")
        pictures.picture(content, "image")
        return scripts.words_of(said(content, self._desk.model) or {})

    def _samplers(self) -> list[str]:
        return [part.name for part in self._desk.model.registry.parts("sampler")]

    def _check_model(self, options: dict[str, Any]) -> None:
        asked = options.get("sd_model_checkpoint")
        if asked not in (None, "", self._name):
            raise Invalid(f"sd_model_checkpoint: {self._name} is served, and no other model", "sd_model_checkpoint")

    async def _drawing(self, fields: Fields) -> Drawing:
        self._check_model(fields.table("override_settings") or {})
        return scripts.drawing(fields, self._desk.model, await asyncio.to_thread(self._samplers))

    async def _answer(self, request: Request, fields: Fields, drawing: Drawing) -> Response:
        owner = owner_of(request)
        with self._runs.one(owner, drawing.count, list(self._desk.model.stages)) as run:
            drawn = self._desk.draw(owner, drawing)
            await until(_collect(drawn, run), gone(request), run.stopped.wait())
        infos = [scripts.infotext(fields, each, self._name) for each in run.finished]
        sent = fields.flag("send_images", True)
        files = [
            await asyncio.to_thread(pictures.base64_of, each.image, each.provenance, "png", 100, words)
            for each, words in zip(run.finished if sent else [], infos, strict=False)
        ]
        info = scripts.info(fields, run.finished, infos, time.strftime("%Y%m%d%H%M%S", time.localtime(run.began)))
        return JSONResponse({"images": files, "parameters": scripts.echoed(fields), "info": json.dumps(info)})


async def _collect(drawn: AsyncGenerator[Any], run: Run) -> None:
    """Hears what is drawn, and keeps it in `run`."""
    async with aclosing(drawn):
        async for part in drawn:
            if isinstance(part, Finished):
                run.finished.append(part)
            elif isinstance(part, Advanced):
                run.advance(part)
            elif isinstance(part, Partial):
                run.image = part.image
