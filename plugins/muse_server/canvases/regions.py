"""Regions that clients choose: boxes of whole numbers, cells of a grid, or a picture that was dropped; never a text."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_server.refusals import Refusal
from muse_studio.sampling.editing.region import WHITE

BOXES = 256
"""Boxes of a region, at most."""
LARGEST = 2**20
"""Of a box's numbers: beyond any picture."""

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Area:
    """A region as a client gave it: one of these is set.

    boxes: (x, y, width, height) in pixels. cells: bool[h, w] of a stage's grid. picture: white where the region is.
    """

    boxes: tuple[tuple[int, int, int, int], ...] = ()
    cells: Mask | None = None
    picture: Image.Image | None = None

    def of(self, size: tuple[int, int]) -> list[str] | Mask:
        """The region of a canvas of that width and height, as its methods take it: boxes, or bool[height, width].

        Refusal where it holds nothing of it.
        """
        if self.boxes:
            return [",".join(map(str, box)) for box in self.boxes]
        width, height = size
        if self.cells is not None:
            rows, columns = self.cells.shape
            mask = self.cells.repeat(height // rows, 0).repeat(width // columns, 1)
        else:
            assert self.picture is not None  # or `area` made none
            mask = np.asarray(self.picture.convert("L").resize(size, Image.Resampling.BILINEAR)) >= WHITE
            if not mask.any():
                raise Refusal("region.picture: it is white nowhere, and white is where the region is", "region.picture")
        return mask


def area(value: object, grids: Mapping[str, tuple[int, int]], pictures: Mapping[str, Image.Image]) -> Area:
    """What a client's JSON says of a region; Refusal where it is none.

    grids: rows and columns of each stage's cells. pictures: those that were dropped, by id.
    """
    kinds = {"boxes": _boxes, "cells": _cells, "picture": _picture}
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in kinds:
        raise Refusal('region: expected {"boxes": [[x, y, w, h]]}, {"cells": ...} or {"picture": id}', "region")
    ((kind, given),) = value.items()
    return kinds[kind](given, grids, pictures)


def _boxes(given: Any, grids: Mapping[str, tuple[int, int]], pictures: Mapping[str, Image.Image]) -> Area:
    if not isinstance(given, list) or not 1 <= len(given) <= BOXES or not all(map(_is_box, given)):
        raise Refusal(f"region.boxes: expected at most {BOXES} of [x, y, width, height]", "region.boxes")
    return Area(boxes=tuple((x, y, width, height) for x, y, width, height in given))


def _is_box(box: Any) -> bool:
    whole = isinstance(box, list) and len(box) == 4 and all(type(each) is int and abs(each) <= LARGEST for each in box)
    return whole and box[2] > 0 and box[3] > 0


def _cells(given: Any, grids: Mapping[str, tuple[int, int]], pictures: Mapping[str, Image.Image]) -> Area:
    if not isinstance(given, Mapping) or given.keys() != {"stage", "bits"} or not isinstance(given["stage"], str):
        raise Refusal('region.cells: expected {"stage": its name, "bits": base64}', "region.cells")
    if given["stage"] not in grids:
        raise Refusal(f"region.cells.stage: expected one of {', '.join(grids)}", "region.cells.stage")
    rows, columns = grids[given["stage"]]
    due = -(-rows * columns // 8)
    try:
        content = base64.b64decode(given["bits"], validate=True) if isinstance(given["bits"], str) else b""
    except (binascii.Error, ValueError):
        content = b""
    if len(content) != due:
        raise Refusal(
            f"region.cells.bits: expected base64 of {due} bytes, the bits of {rows}x{columns} cells",
            "region.cells.bits",
        )
    cells = np.unpackbits(np.frombuffer(content, np.uint8), count=rows * columns).reshape(rows, columns) > 0
    if not cells.any():
        raise Refusal("region.cells.bits: no cell is chosen", "region.cells.bits")
    return Area(cells=cells)


def _picture(given: Any, grids: Mapping[str, tuple[int, int]], pictures: Mapping[str, Image.Image]) -> Area:
    if not isinstance(given, str) or given not in pictures:
        raise Refusal("region.picture: there is none of that id any more; drop it once again", "region.picture")
    return Area(picture=pictures[given])
