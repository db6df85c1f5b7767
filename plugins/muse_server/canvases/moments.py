"""What a server needs of a canvas beyond drawing: a copy that can be thrown away, an end to its history, files."""

from __future__ import annotations

import io
import operator
from dataclasses import replace

from PIL import Image

from muse_studio.images.provenance import Provenance
from muse_studio.sampling.editing import deeds
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.history import Moment

KEPT = 500
"""Actions of a canvas that can be undone."""
WITH_STEPS = 8
"""Moments, the newest, whose steps are kept: a drawing's take as much memory as a hundred actions."""


def undone(canvas: Canvas) -> int:
    """How many actions can be done again."""
    return len(canvas.moments) - 1 - len(canvas.history)


def copied(canvas: Canvas) -> Canvas:
    """The same canvas, to act on: the given one stays as it is."""
    return canvas.at(len(canvas.history))


def trimmed(canvas: Canvas, kept: int = KEPT, with_steps: int = WITH_STEPS) -> Canvas:
    """The canvas with its newest moments alone, the oldest of which it then begins with.

    Its actions can't be told in full any more where some fell off.
    """
    history, place = list(canvas.moments), len(canvas.history)
    if (gone := len(history) - 1 - kept) > 0:
        first = replace(history[gone], did={"do": "start"}, drawn=None, steps=())
        second = history[gone + 1]
        history = [first, replace(second, did=second.did | {deeds.UNSAID: True}), *history[gone + 2 :]]
        place = max(0, place - gone)
    history = _without_old_steps(history, with_steps)
    same = len(history) == len(canvas.moments) and all(map(operator.is_, history, canvas.moments))
    return canvas if same else canvas.restore(history, place)


def _without_old_steps(history: list[Moment], kept: int) -> list[Moment]:
    drawn = [number for number, moment in enumerate(history) if moment.steps]
    old = set(drawn[: max(0, len(drawn) - kept)])
    return [replace(moment, steps=()) if number in old else moment for number, moment in enumerate(history)]


def picture(canvas: Canvas) -> Image.Image:
    """What is shown of it; Refused where a filter refuses it. One on which nothing was done is asked of nobody."""
    return canvas.finished() if canvas.history else canvas.image


def png(image: Image.Image, said: Provenance) -> bytes:
    """A picture that says where it comes from, as a file."""
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=said.png())
    return file.getvalue()


def enlarged(content: bytes, scale: int, said: Provenance) -> bytes:
    """A picture's file, each pixel now a square of `scale` pixels."""
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        return png(image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST), said)
