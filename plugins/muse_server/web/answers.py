"""Answers in JSON, and errors in the shape that OpenAI's API has, none of them with a path of this machine."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse


def failure(status: int, message: str, *, param: str | None = None, code: str | None = None) -> JSONResponse:
    """An error: `{"error": {"message", "type", "param", "code"}}`."""
    raise NotImplementedError


async def failed(request: Request, error: Exception) -> JSONResponse:
    """What an exception is told as; all that is no UserError is logged here, and told as an error that is not yours."""
    raise NotImplementedError
