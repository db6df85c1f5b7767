"""What a canvas looks like: the pixels that each action drew, on those that the actions before it left."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import MASK
from muse_studio.sampling.editing.board import Board
from muse_studio.sampling.editing.history import Moment
from muse_studio.sampling.editing.region import feathered
from muse_studio.sampling.previews import hide, previews

KEPT = 16
"""Moments whose pixels are remembered. Those of others are made again, from the last of which all was drawn."""


class Composite:
    """The pictures of a canvas's moments.

    A decoder looks beyond a cell, and many look at the whole picture: one token changed moves pixels everywhere, if by
    little. So a moment has new pixels where its action drew, and the very pixels of the one before elsewhere. In the
    outer half of a cell of what was drawn, both blend, so that no seam shows.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._kept: OrderedDict[int, tuple[Moment, Tensor]] = OrderedDict()

    def of(self, history: Sequence[Moment]) -> Tensor:
        """uint8[1, 3, H, W] after the last of these moments, which begin with the first; erased cells are grey."""
        name, stage = list(self._board.stages.items())[-1]
        return hide(stage, self._pixels(history, name), history[-1].erased[name])

    def _pixels(self, history: Sequence[Moment], name: str) -> Tensor:
        first = len(history) - 1
        while id(history[first]) not in self._kept and history[first].drawn is not None:
            first -= 1
        for number in range(first, len(history)):
            moment = history[number]
            if id(moment) in self._kept:
                self._kept.move_to_end(id(moment))
            else:
                whole = moment.drawn is None
                made = self._drawn(moment, name) if whole else self._on(history[number - 1], moment, name)
                self._kept[id(moment)] = moment, made
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return self._kept[id(history[-1])][1]

    def _drawn(self, moment: Moment, name: str) -> Tensor:
        """All pixels of a moment's tokens; where none ever stood, of any."""
        with torch.inference_mode():
            return next(previews(self._board.stages[name], [moment.codes[name].clamp(min=0)])).cpu()

    def _on(self, before: Moment, moment: Moment, name: str) -> Tensor:
        """A moment's pixels where it drew, on those of the moment before."""
        assert moment.drawn is not None  # or there is no need for what was before
        drawn, old = moment.drawn[0].cpu(), self._kept[id(before)][1]
        plane = self._board.plane(moment.codes)
        height, width = plane.picture
        if old.shape[-2:] != (height, width):
            top, left = self._board.corner(moment.did)
            grown = old.new_zeros(1, 3, height, width)
            grown[..., top : top + old.shape[-2], left : left + old.shape[-1]] = old
            old = grown
        if not drawn.any():
            return old
        rows, columns = drawn.shape
        cell = height // rows, width // columns

        def pixels(cells: Tensor) -> Tensor:
            return F.interpolate(cells[None, None].float(), (height, width))[0, 0] > 0

        never = (before.codes[name][0] == MASK).cpu()
        weight = 1 - feathered(~pixels(drawn), max(cell) // 2)
        weight = torch.where(pixels(drawn & never), 1.0, weight)
        return torch.lerp(old.float(), self._drawn(moment, name).float(), weight).round().byte()
