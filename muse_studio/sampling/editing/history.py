"""What a canvas remembers, and the file that holds all of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from muse_studio.errors import UserError, words_of
from muse_studio.runtime import weights

KEY = "muse_canvas"
"""The metadata key of a saved canvas; its value is JSON."""

GRIDS = ("codes", "erased", "frozen")
"""What a moment holds of each stage, which a saved canvas names its tensors by: "3.erased.base"."""

DRAWN = "drawn"
"""What a saved canvas names the grid of what an action drew by: "3.drawn"."""


Kept: TypeAlias = tuple[str, int, int, Tensor]
"""A step that is kept: the stage's name, the step from 1, of how many, and the tokens int32[1, h, w] on the CPU."""


@dataclass(frozen=True)
class Moment:
    """The canvas after one action, and what that was.

    codes: each stage's tokens int64[1, h, w], those from before where they were erased. erased, frozen: bool[1, h, w].
    did: the action and its settings, as they can be written to JSON. drawn: bool[1, h, w] of the last stage, what the
    action drew; all else keeps its pixels. None where all was drawn. steps: of the action, where they are kept;
    a file has none.
    """

    codes: dict[str, Tensor]
    erased: dict[str, Tensor]
    frozen: dict[str, Tensor]
    did: dict[str, Any] = field(default_factory=dict)
    drawn: Tensor | None = None
    steps: tuple[Kept, ...] = ()

    def to(self, device: torch.device) -> Moment:
        """The same on a device: this very one where it is there already, by which its pixels are remembered."""
        grids: dict[str, Any] = {
            what: {name: grid.to(device) for name, grid in getattr(self, what).items()} for what in GRIDS
        }
        drawn = None if self.drawn is None else self.drawn.to(device)
        there = all(grid is getattr(self, what)[name] for what in GRIDS for name, grid in grids[what].items())
        return self if there and drawn is self.drawn else replace(self, **grids, drawn=drawn)


@dataclass(frozen=True)
class Saved:
    """All of a canvas but its model: what was done, where in that it stands, and how it was made."""

    history: Sequence[Moment]
    place: int
    seed: int
    dilate: int
    recipe: dict[str, Any] | None


def write(path: Path, canvas: Saved) -> None:
    """Write a canvas as safetensors, whole or not at all; UserError where the disk refuses."""
    tensors = {
        f"{number}.{what}.{name}": grid.clone()  # moments share grids, and safetensors writes none twice
        for number, moment in enumerate(canvas.history)
        for what in GRIDS
        for name, grid in getattr(moment, what).items()
    }
    drawn = {f"{number}.{DRAWN}": each.drawn for number, each in enumerate(canvas.history) if each.drawn is not None}
    tensors |= {name: grid.clone() for name, grid in drawn.items()}
    settings = {
        "recipe": canvas.recipe,
        "seed": canvas.seed,
        "dilate": canvas.dilate,
        "place": canvas.place,
        "did": [moment.did for moment in canvas.history],
    }
    weights.save(tensors, path, {}, **{KEY: json.dumps(settings)})


def read(path: Path) -> Saved:
    """What `write` wrote, on the CPU; UserError where a file is missing, is damaged, or holds no canvas."""
    try:
        _, metadata = weights.header(weights.local(str(path)))
        settings = json.loads(metadata[KEY])
        tensors = weights.read(str(path))
        history = [_moment(tensors, number, did) for number, did in enumerate(settings["did"])]
        if settings["place"] not in range(len(history)):
            raise ValueError(f"it stands at action {settings['place']} of {len(history)}")
        return Saved(history, settings["place"], settings["seed"], settings["dilate"], settings["recipe"])
    except (UserError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} holds no canvas that can be read ({words_of(error)}); give a file of Canvas.save"
        ) from error


def _moment(tensors: dict[str, Tensor], number: int, did: dict[str, Any]) -> Moment:
    """The moment of that number, of all tensors of a file."""
    grids: dict[str, Any] = {}
    for what in GRIDS:
        start = f"{number}.{what}."
        grids[what] = {name.removeprefix(start): grid for name, grid in tensors.items() if name.startswith(start)}
    return Moment(**grids, did=did, drawn=tensors.get(f"{number}.{DRAWN}"))
