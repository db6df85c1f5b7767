"""A session's canvas as plain data, made by the model's thread, so that all others can tell of it without torch."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from muse_server.canvases import moments
from muse_server.canvases.previews import bits, data_url, shown_steps
from muse_studio.contracts import MASK
from muse_studio.images.provenance import Provenance
from muse_studio.sampling.editing.canvas import Canvas

MOST_PICTURES = 128
"""Steps of an action beyond which they are told without pictures."""


@dataclass(frozen=True)
class Shot:
    """A canvas as it is, which no action changes any more.

    size: width and height. grids: as the state of a session has them, by stage. history: what was done, for people.
    place: how many actions that is. undone: how many can be done again.
    """

    canvas: Canvas
    image: Image.Image
    provenance: Provenance
    size: tuple[int, int]
    grids: dict[str, dict[str, Any]]
    history: list[dict[str, Any]]
    place: int
    undone: int
    prompt: str

    @property
    def seed(self) -> int | None:
        """The seed of the last action that drew."""
        return next((did["seed"] for did in reversed(self.history) if "seed" in did), None)

    @property
    def title(self) -> str:
        """What a list of canvases calls it: the first prompt."""
        return title(self.history)


def title(history: list[dict[str, Any]]) -> str:
    """The first prompt of what was done, empty where there is none."""
    return next((did["prompt"] for did in history if did.get("prompt")), "")


def shot(canvas: Canvas) -> Shot:
    """A canvas as it is, from now on not to be changed; Refused where a filter refuses its picture."""
    now = canvas.now
    grids = {
        name: {
            "grid": list(codes.shape[1:]),
            "known": bits(~now.erased[name]),
            "frozen": bits(now.frozen[name]),
            "erased": bits(now.erased[name]),
        }
        for name, codes in now.codes.items()
    }
    return Shot(
        canvas,
        moments.picture(canvas),
        canvas.provenance,
        canvas.size,
        grids,
        canvas.history,
        len(canvas.history),
        moments.undone(canvas),
        canvas.prompt,
    )


def steps(canvas: Canvas, pictures: bool) -> list[dict[str, Any]]:
    """Every step of a canvas's last action, where they are kept, as the page's slider takes them.

    codes: base64 of uint16, little endian, 65535 where nothing is known; None of a tokenizer with more codes than that.
    """
    kept = canvas.now.steps
    shown: dict[str, list[Image.Image]] = {}
    for name in {stage for stage, *_ in kept} if pictures and len(kept) <= MOST_PICTURES else ():
        shown[name] = shown_steps(canvas.model.stages, name, [grid.long() for stage, *_, grid in kept if stage == name])
    told = []
    for stage, step, of, grid in kept:
        image = data_url(shown[stage].pop(0)) if stage in shown else None
        small = canvas.model.stages[stage].tokenizer.codebook_size <= np.iinfo(np.uint16).max
        codes = base64.b64encode(grid[0].numpy().astype("<u2").tobytes()).decode() if small else None
        known = bits(grid != MASK)
        each = {"stage": stage, "step": step, "steps": of, "grid": list(grid.shape[1:])}
        told.append(each | {"known": known, "codes": codes, "image": image})
    return told
