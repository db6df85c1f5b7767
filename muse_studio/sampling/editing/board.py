"""A canvas's grids: the plane that they make, the cells of a region, and what stands where once sides are added."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import MASK
from muse_studio.errors import UserError
from muse_studio.images.pixels import from_image
from muse_studio.sampling.editing import deeds
from muse_studio.sampling.editing.history import Moment
from muse_studio.sampling.editing.region import Region, as_region, to_cells
from muse_studio.sampling.editing.windows import LARGEST, Layout
from muse_studio.sampling.stage import Stage

Cells: TypeAlias = Mapping[str, str]
"""A region that is no box, as an action tells it: each stage's cells, as `deeds.pack` writes them."""

Grids: TypeAlias = dict[str, Tensor]
"""A grid of each stage, [1, h, w]."""


class Board:
    """What is known of the grids of a model's canvases."""

    def __init__(self, stages: dict[str, Stage], device: torch.device) -> None:
        self.stages, self.device = stages, device
        self.last = list(stages.values())[-1]

    def blank(self) -> Moment:
        """A canvas of the model's own size on which nothing is drawn."""
        codes = {name: stage.blank(1, self.device) for name, stage in self.stages.items()}
        nothing = {name: torch.zeros_like(grid, dtype=torch.bool) for name, grid in codes.items()}
        return Moment(codes, {name: ~grid for name, grid in nothing.items()}, nothing, {"do": "start"})

    def plane(self, grids: Mapping[str, Tensor]) -> Layout:
        """The plane of these grids, of one window or more; ValueError where they are of none of this model's."""
        if grids.keys() != self.stages.keys():
            raise ValueError(
                f"there are grids of {', '.join(grids) or 'no stage'}, and {', '.join(self.stages)} are due"
            )
        rows, columns = list(grids.values())[-1].shape[-2:]
        height, width = (rows * self.last.height // self.last.grid[0], columns * self.last.width // self.last.grid[1])
        plane = Layout.of(self.stages, (height, width), (self.last.height, self.last.width))
        for name, grid in grids.items():
            if tuple(grid.shape) != (1, *plane.grid(self.stages[name])):
                raise ValueError(f"the grid of {name} is {list(grid.shape)}, which fits none of the others")
        return plane

    def check(self, history: Sequence[Moment]) -> None:
        """ValueError where these are no canvas's moments, one after the other, or are of another model."""
        before = None
        for number, moment in enumerate(history):
            try:
                before = self._check(moment, before, first=number == 0)
            except (UserError, ValueError) as error:
                raise ValueError(f"moment {number}: {error}") from error

    def _check(self, moment: Moment, before: tuple[int, int] | None, first: bool) -> tuple[int, int]:
        """Height and width of a moment's picture, which comes after one of the size `before`."""
        if not first:
            deeds.check_told(moment.did)
        picture = self.plane(moment.codes).picture
        shapes = {name: grid.shape for name, grid in moment.codes.items()}
        if any({name: grid.shape for name, grid in each.items()} != shapes for each in (moment.erased, moment.frozen)):
            raise ValueError("its grids are of different sizes or stages")
        due = list(moment.codes.values())[-1].shape
        if moment.drawn is None:
            return picture
        if moment.drawn.shape != due:
            raise ValueError(f"the grid of what was drawn is {list(moment.drawn.shape)}, and {list(due)} is due")
        if before is None:
            raise ValueError("it keeps pixels of a moment before it, and there is none")
        left, top, right, bottom = self._added(moment.did if moment.did["do"] == "extend" else {})
        if picture != (before[0] + top + bottom, before[1] + left + right):
            raise ValueError("it keeps pixels of the moment before it, which is of another size")
        return picture

    def told(self, texts: Cells, like: Grids, codes: bool = False) -> Grids:
        """The grids that an action tells, bool or codes int64; UserError where they are no such as these `like`."""
        if texts.keys() != self.stages.keys():
            raise UserError(
                f"cells of {', '.join(texts) or 'no stage'} don't fit; give those of {', '.join(self.stages)}"
            )
        grids = {}
        for name, text in texts.items():
            most = self.stages[name].tokenizer.codebook_size if codes else None
            grids[name] = deeds.unpack(text, most)[None].to(self.device)
            if grids[name].shape != like[name].shape:
                due, found = ("x".join(map(str, each.shape[1:])) for each in (like[name], grids[name]))
                raise UserError(f"cells of {name}: {found} don't fit this canvas, which has {due}")
        return grids

    def cells(self, region: Region | Cells | None, now: Moment, dilate: int) -> Grids:
        """Each stage's tokens of a region, bool[1, h, w]; cells that an action tells are taken as they are."""
        if isinstance(region, Mapping):
            return self.told(region, now.codes)
        plane = self.plane(now.codes)
        height, width = plane.picture
        pixels = torch.ones(height, width, dtype=torch.bool) if region is None else as_region(region, height, width)
        return {
            name: to_cells(plane.region_to_stage(pixels, stage), plane.grid(stage), dilate)[None].to(self.device)
            for name, stage in self.stages.items()
        }

    def encoded(self, picture: Image.Image, now: Moment) -> Grids:
        """A picture's tokens, scaled and cut to the canvas's shape; inference mode is the caller's."""
        plane = self.plane(now.codes)
        if plane.cells == plane.window:
            laid = Layout.of(self.stages, (picture.height, picture.width))
        else:  # scaled by the model's way of one window, it would not cover the others
            height, width = plane.picture
            laid, picture = plane, ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
        pixels, codes = from_image(picture), {}
        for name, stage in self.stages.items():
            height, width = plane.size(stage)
            images = laid.to_stage(pixels, stage)[..., :height, :width].float() / 255
            codes[name] = stage.tokenizer.encode(images.to(self.device))
        return codes

    @staticmethod
    def placed(codes: Grids, picture: str) -> Moment:
        """The canvas of these tokens, which are a picture's: of that file, or "a picture"."""
        nothing = {name: torch.zeros_like(grid, dtype=torch.bool) for name, grid in codes.items()}
        told = {name: deeds.pack(grid[0]) for name, grid in codes.items()}
        return Moment(codes, nothing, nothing, {"do": "place", "picture": picture, "tokens": told})

    def extended(self, now: Moment, sides: Mapping[str, Any]) -> Moment:
        """The canvas with so many pixels more at its sides, in whole cells, which are erased; UserError where it can't.

        sides: left, top, right and bottom.
        """
        plane = self.plane(now.codes)
        high, wide = self._cell()
        left, top, right, bottom = (
            pixels // one for pixels, one in zip(self._added(sides), (wide, high, wide, high), strict=True)
        )
        if not any((left, right, top, bottom)):
            raise UserError("extend: nothing is added; give pixels at left, top, right or bottom")
        height, width = (plane.cells[0] + top + bottom) * high, (plane.cells[1] + left + right) * wide
        if height * width > LARGEST:
            raise UserError(f"extend: {width}x{height} pixels would come of it, and {LARGEST:,} is the most; add fewer")

        def grown(grids: Grids, value: int) -> Grids:
            more = {}
            for name, grid in grids.items():
                down, across = (own // one for own, one in zip(self.stages[name].grid, plane.window, strict=True))
                more[name] = F.pad(grid, (left * across, right * across, top * down, bottom * down), value=value)
            return more

        grids = grown(now.codes, MASK), grown(now.erased, True), grown(now.frozen, False)
        extended = Moment(*grids, {"do": "extend", **sides})
        return replace(extended, drawn=self._nothing(extended))

    def corner(self, sides: Mapping[str, Any]) -> tuple[int, int]:
        """Where the former picture's top left is in one that was extended by these sides: pixels from top and left."""
        left, top, *_ = self._added(sides)
        return top, left

    def _added(self, sides: Mapping[str, Any]) -> tuple[int, ...]:
        """Pixels at left, top, right and bottom, rounded up to whole cells; UserError where one is no such number."""
        added = []
        for side, one in zip(("left", "top", "right", "bottom"), self._cell()[::-1] * 2, strict=True):
            pixels = sides.get(side, 0)
            if not isinstance(pixels, int) or isinstance(pixels, bool) or pixels < 0:
                raise UserError(f"extend: {side} is {pixels!r}; give 0 pixels or more")
            added.append(-(-pixels // one) * one)
        return tuple(added)

    def erased(self, now: Moment, cells: Grids) -> Moment:
        """The canvas with these cells erased, but for those that are frozen."""
        erased = {name: grid | (cells[name] & ~now.frozen[name]) for name, grid in now.erased.items()}
        return replace(now, erased=erased, drawn=self._nothing(now), steps=())

    def frozen(self, now: Moment, cells: Grids) -> Moment:
        """The canvas with these cells frozen, but for those that are erased."""
        frozen = {name: grid | (cells[name] & ~now.erased[name]) for name, grid in now.frozen.items()}
        return replace(now, frozen=frozen, drawn=self._nothing(now), steps=())

    def thawed(self, now: Moment, cells: Grids) -> Moment:
        """The canvas with none of these cells frozen."""
        frozen = {name: grid & ~cells[name] for name, grid in now.frozen.items()}
        return replace(now, frozen=frozen, drawn=self._nothing(now), steps=())

    @staticmethod
    def _nothing(now: Moment) -> Tensor:
        """A grid of the last stage of which nothing is drawn."""
        return torch.zeros_like(list(now.erased.values())[-1])

    def _cell(self) -> tuple[int, int]:
        """Height and width in pixels of the smallest part of which all stages have whole tokens."""
        rows, columns = (math.gcd(*(stage.grid[axis] for stage in self.stages.values())) for axis in (0, 1))
        return self.last.height // rows, self.last.width // columns
