"""What a server needs of a canvas beyond drawing: each of its moments, a copy that can be thrown away, an end to it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from PIL import Image
from torch import Tensor

from muse_studio.images.provenance import Provenance
from muse_studio.sampling.editing import deeds
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.history import Kept, Moment

KEPT = 500
"""Actions of a canvas that can be undone."""
WITH_STEPS = 8
"""Moments, the newest, whose steps are kept: a drawing's take as much memory as a hundred actions."""


def copied(canvas: Canvas) -> Canvas:
    """The same canvas, to act on: the given one stays as it is."""
    return copy(canvas)  # its history is a list that no action changes: each makes a new one


def at(canvas: Canvas, place: int) -> Canvas:
    """A copy that stands at so many actions; IndexError where there were not so many."""
    if not 0 <= place < len(canvas._history):
        raise IndexError(place)
    other = copied(canvas)
    other._place = place
    return other


def place(canvas: Canvas) -> int:
    """How many actions it stands at."""
    return canvas._place


def undone(canvas: Canvas) -> int:
    """How many actions can be done again."""
    return len(canvas._history) - 1 - canvas._place


def all_of(canvas: Canvas) -> list[Moment]:
    """Its blank beginning, and what it was after each action, also those that were undone."""
    return list(canvas._history)


def moment(canvas: Canvas, place: int) -> Moment:
    """What it was after so many actions; IndexError where there were not so many."""
    return now(at(canvas, place))


def now(canvas: Canvas) -> Moment:
    """Its grids."""
    return canvas._now


def former(canvas: Canvas) -> dict[str, Tensor]:
    """Each stage's codes int64[1, h, w], those from before where they were erased."""
    return canvas._now.codes


def kept_steps(canvas: Canvas) -> Sequence[Kept]:
    """The steps of the last action, where they are kept."""
    return canvas._now.steps


def restored(canvas: Canvas, history: Sequence[Moment], place: int) -> Canvas:
    """The canvas with this history; ValueError where it is of a model with other stages or grids."""
    for moment in history:
        canvas._board.check(moment)
    canvas._history, canvas._place = [each.to(canvas.device) for each in history], place
    return canvas


def trimmed(canvas: Canvas, kept: int = KEPT, with_steps: int = WITH_STEPS) -> Canvas:
    """The canvas with its newest moments alone, the oldest of which it then begins with.

    Its actions can't be told in full any more where some fell off.
    """
    history = canvas._history
    if (gone := len(history) - 1 - kept) > 0:
        first = replace(history[gone], did={"do": "start"}, drawn=None, steps=())
        second = history[gone + 1]
        history = [first, replace(second, did=second.did | {deeds.UNSAID: True}), *history[gone + 2 :]]
        canvas._place = max(0, canvas._place - gone)
    canvas._history = _without_old_steps(history, with_steps)
    return canvas


def _without_old_steps(history: list[Moment], kept: int) -> list[Moment]:
    drawn = [number for number, moment in enumerate(history) if moment.steps]
    old = set(drawn[: max(0, len(drawn) - kept)])
    return [replace(moment, steps=()) if number in old else moment for number, moment in enumerate(history)]


def picture(canvas: Canvas) -> Image.Image:
    """What is shown of it; Refused where a filter refuses it. One on which nothing was done is asked of nobody."""
    return canvas.finished() if canvas._place else canvas.image


def provenance(canvas: Canvas) -> Provenance:
    """What its picture says of itself: how it is drawn again."""
    placed = any(did["do"] == "place" for did in canvas.history)
    return Provenance(canvas._playing(), canvas.model.plugins, placed, canvas.prompt)


def png(image: Image.Image, said: Provenance) -> bytes:
    """A picture that says where it comes from, as a file."""
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=said.png())
    return file.getvalue()


def enlarged(content: bytes, scale: int, said: Provenance) -> bytes:
    """A picture's file, each pixel now a square of `scale` pixels."""
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        return png(image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST), said)
