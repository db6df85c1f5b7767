"""The dialects as an application of their own, and the files that clients send."""

from __future__ import annotations

import io

import numpy as np
from fake_desk import FakeDesk
from muse_server.dialects import a1111, openai
from muse_server.web.answers import failed
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from muse_studio.errors import UserError

NAME = "models/emoji"


def speaking(desk: FakeDesk, strict_model: bool = False) -> Starlette:
    """An application of the dialects alone."""
    routes = [*openai.routes(desk, NAME, strict_model), *a1111.routes(desk, NAME)]  # type: ignore[arg-type]
    handlers = {UserError: failed, HTTPException: failed, Exception: failed}
    return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]


def png(width: int = 128, height: int = 128, colour: str = "white") -> bytes:
    """A plain picture's file."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def mask(width: int = 128, height: int = 128) -> bytes:
    """A mask's file, transparent in its left upper quarter."""
    values = np.full((height, width, 4), 255, np.uint8)
    values[: height // 2, : width // 2, 3] = 0
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()
