"""Grids of pictures whose rows and columns have names: what changes along each, and what stays."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from muse_studio.sheet import GAP, GREY, INK, LINE, MARGIN, PAPER, TEXT, TITLE, cut, fit, stacked, wrap

FIELD = "#eeeeee"
"""The colour of a cell that holds words instead of a picture."""
WIDEST = 180
"""Pixels of a line of a row's name."""


@dataclass
class Block:
    """Pictures under a title, one for each row and column; a cell may hold words instead, such as "refused"."""

    title: str
    rows: list[str]
    columns: list[str]
    cells: list[list[Image.Image | str]]


def grid_sheet(blocks: list[Block], *, side: int = 128) -> Image.Image:
    """All blocks from top to bottom. side: pixels of a picture's longer side."""
    small, large = ImageFont.load_default(size=TEXT), ImageFont.load_default(size=TITLE)
    sides = [[wrap(name, small, WIDEST) for name in block.rows] for block in blocks]
    beside = MARGIN + max(math.ceil(small.getlength(line)) for names in sides for lines in names for line in lines)
    width = 2 * MARGIN + beside + max(len(block.columns) for block in blocks) * (side + GAP)
    parts = []
    for block, names in zip(blocks, sides, strict=True):
        heads = [wrap(name, small, side) for name in block.columns]
        title = TITLE + MARGIN if block.title else 0
        above = MARGIN + title + LINE * max(map(len, heads)) + GAP
        part = Image.new("RGB", (width, above + len(block.rows) * (side + GAP) + MARGIN), PAPER)
        pen = ImageDraw.Draw(part)
        if block.title:
            pen.text((MARGIN, MARGIN), cut(block.title, large, width - 2 * MARGIN), INK, font=large)
        for column, lines in enumerate(heads):
            x = MARGIN + beside + column * (side + GAP)
            for number, line in enumerate(lines):
                pen.text((x + side // 2, above - GAP - LINE * (len(lines) - number)), line, GREY, small, anchor="ma")
        for row, lines in enumerate(names):
            y = above + row * (side + GAP)
            for number, line in enumerate(lines):
                place = (MARGIN, y + side // 2 + LINE * number - LINE * len(lines) // 2)
                pen.text(place, line, INK, font=small)
            for column, cell in enumerate(block.cells[row]):
                _put(part, cell, (MARGIN + beside + column * (side + GAP), y), side)
        parts.append(part)
    return stacked(parts)


def _put(sheet: Image.Image, cell: Image.Image | str, corner: tuple[int, int], side: int) -> None:
    """One cell at its corner, a picture in the middle."""
    x, y = corner
    if isinstance(cell, Image.Image):
        picture = fit(cell, side)
        sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
        return
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=TEXT)
    pen.rectangle((x, y, x + side - 1, y + side - 1), fill=FIELD)
    pen.text((x + side // 2, y + side // 2), cut(cell, font, side), GREY, font, anchor="mm")
