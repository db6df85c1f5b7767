"""Drawn pictures as OpenAI's images API tells them: in one answer, or as a stream of events."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from muse_server.dialects import pictures
from muse_server.dialects.streams import event
from muse_server.drawings import Finished, Partial

Act = Literal["image_generation", "image_edit"]
"""How the events of a stream begin."""
AUTO = "auto"
QUALITIES = ("low", "medium", "high", "xhigh", "max", AUTO)
"""What an answer may call its quality; other words are told as auto."""


@dataclass(frozen=True)
class Told:
    """How pictures are told: their files, 0 to 100 of how much is kept, and what was said of their quality."""

    kind: pictures.Kind
    compression: int
    quality: str


async def whole(drawn: AsyncGenerator[Any], told: Told) -> dict[str, Any]:
    """One answer with all pictures."""
    finished: list[Finished] = []
    async with aclosing(drawn):
        async for part in drawn:
            if isinstance(part, Finished):
                finished.append(part)
    answer = {
        "created": int(time.time()),
        "data": [{"b64_json": await _file(each, told)} for each in finished],
        "background": "opaque",
        "output_format": told.kind,
        "size": _size(finished[0].image),
        "usage": _usage(sum(each.tokens for each in finished)),
    }
    return answer if told.quality == AUTO else answer | {"quality": told.quality}


async def events(drawn: AsyncGenerator[Any], act: Act, told: Told) -> AsyncGenerator[bytes]:
    """Partial pictures, numbered from 0 for each picture, and a completed one each."""
    counts: Counter[int] = Counter()
    async with aclosing(drawn):
        async for part in drawn:
            if isinstance(part, Partial):
                number = {"partial_image_index": counts[part.index]}
                counts[part.index] += 1
                yield _event(f"{act}.partial_image", part.image, await _file(part, told), told, number)
            elif isinstance(part, Finished):
                usage = {"usage": _usage(part.tokens)}
                yield _event(f"{act}.completed", part.image, await _file(part, told), told, usage)


def _event(name: str, image: Image.Image, file: str, told: Told, more: dict[str, Any]) -> bytes:
    data = {
        "type": name,
        "b64_json": file,
        "created_at": int(time.time()),
        "size": _size(image),
        "quality": told.quality,
        "background": "opaque",
        "output_format": told.kind,
    }
    return event(name, data | more)


async def _file(part: Partial | Finished, told: Told) -> str:
    provenance = part.provenance if isinstance(part, Finished) else None
    return await asyncio.to_thread(pictures.base64_of, part.image, provenance, told.kind, told.compression)


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def _usage(tokens: int) -> dict[str, Any]:
    """Tokens of the pictures, of all stages; those of the prompt are not counted."""
    details = {"image_tokens": 0, "text_tokens": 0}
    return {"input_tokens": 0, "input_tokens_details": details, "output_tokens": tokens, "total_tokens": tokens}
