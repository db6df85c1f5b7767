"""A picture to look at while a run goes on."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from muse_observers.place import check_inside, folder_of
from muse_studio.contracts import NO_RUN, RunContext
from muse_studio.errors import UserError
from muse_studio.hookspecs import hookimpl
from muse_studio.images.pixels import to_bytes, to_images
from muse_studio.images.provenance import Provenance, says_it_is_ours, write_png
from muse_studio.sampling.cascade import decode
from muse_studio.sampling.previews import previews

FILE = "preview.png"
SETTING = "out of the observer preview"
SHOWN = 4
"""Pictures of a batch that are shown, side by side."""


@dataclass
class Preview:
    """Write preview.png now and then, each over the one before: what is being drawn, or a training's last samples.

    Cells that are still masked are grey. A training shows a sheet whenever it draws one, which its `samples` say. A
    preview changes nothing in the run, and costs it one decoding.

    out: its folder; by default where the run writes to.
    seconds: at least so many between two of them; 0 is after each step.
    """

    out: str | None = None
    seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.seconds < 0:
            raise ValueError(f"seconds is {self.seconds}; give 0 or more")
        check_inside(self.out, "out")
        self._tasks: list[tuple[Any, RunContext]] = []
        self._finished: dict[str, Tensor] = {}
        self._path: Path | None = None
        self._next = 0.0

    @hookimpl
    def muse_started(self, task: object, context: RunContext) -> None:
        """Prepare the folder, before anything is drawn; a run within a run writes to the outer one's.

        UserError where it can't be written, or holds a preview.png that is no picture of ours.
        """
        if not self._tasks:
            self._path = folder_of(task, self.out, SETTING) / FILE
            if os.path.lexists(self._path) and not says_it_is_ours(self._path):
                raise UserError(
                    f"{self._path} is no picture that muse_studio drew, and would be replaced; move it away, or give "
                    f"another folder as {SETTING}"
                )
            self._next = time.monotonic() + self.seconds
        self._tasks.append((task, context))

    @hookimpl
    def muse_step(self, stage: str, step: int, steps: int, tokens: Tensor | None, image: Tensor | None) -> None:
        """A picture, where it is time for one."""
        task, context = self._tasks[-1] if self._tasks else (None, NO_RUN)
        if image is not None:
            self._write(to_images(image[None])[0], Provenance())
        stages = getattr(task, "stages", {})
        if tokens is None or stage not in stages:
            return
        if time.monotonic() >= self._next:
            provenance = Provenance(context.recipe, context.plugins, hasattr(task, "picture"))
            self._write(self._shown(stages, stage, tokens), provenance)
            self._next = time.monotonic() + self.seconds
        if step == steps:
            self._finished[stage] = tokens[:SHOWN].clone()

    @hookimpl
    def muse_finished(self) -> None:
        """The innermost run is over."""
        self._tasks.pop()

    @hookimpl
    def muse_failed(self) -> None:
        """The innermost run is over."""
        self._tasks.pop()

    @torch.inference_mode()
    def _shown(self, stages: dict[str, Any], name: str, tokens: Tensor) -> Image.Image:
        """int64[B, h, w] with MASK as one picture; the stage before shines through what is masked."""
        tokens, names, before = tokens[:SHOWN], list(stages), None
        lower = names[names.index(name) - 1] if name != names[0] else None
        if lower in self._finished and len(self._finished[lower]) == len(tokens):
            before = to_bytes(decode(stages[lower], self._finished[lower]))
        shown = next(previews(stages[name], [tokens, tokens.clamp(min=0)], before))
        return to_images(torch.cat(list(shown), -1)[None])[0]

    def _write(self, image: Image.Image, provenance: Provenance) -> None:
        """A disk that refuses ends the previews, not the run."""
        if self._path is None:
            return
        try:
            write_png(image, self._path, provenance)
        except UserError as error:
            warnings.warn(f"no more previews: {error}", stacklevel=2)
            self._path = None
