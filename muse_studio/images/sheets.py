"""Contact sheets, and grids whose rows and columns have names: many small pictures on one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from muse_studio.images.naming import spell

MARGIN, GAP, TEXT, LINE, TITLE = 10, 3, 13, 16, 18
"""Pixels: between tiles, within a tile; the height of a caption's letters, of its lines, and of a title's letters."""
PAPER, INK, GREY = "white", "black", "dimgray"
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass
class Tile:
    """One caption under one or several pictures side by side."""

    images: list[Image.Image]
    caption: str


@dataclass
class Section:
    """Tiles under a title; `labels` names each tile's pictures, such as ["real", "generated"]."""

    title: str
    tiles: list[Tile]
    labels: list[str]


def contact_sheet(sections: list[Section], *, side: int = 128, columns: int | None = None) -> Image.Image:
    """All sections from top to bottom, in rows of `columns` tiles; None makes the sheet about as wide as high.

    side: pixels of a picture's longer side; a small picture is enlarged without smoothing, so that its pixels are seen.
    A caption takes at most three lines; a symbol in it is spelled out, and a script that the font lacks shows as boxes.
    """
    sections = [section for section in sections if section.tiles]
    small, large = ImageFont.load_default(size=TEXT), ImageFont.load_default(size=TITLE)
    abreast = max(len(tile.images) for section in sections for tile in section.tiles)
    most = max(len(section.tiles) for section in sections)
    columns = columns or min(most, math.ceil(math.sqrt(2.5 * most / abreast)))
    width = side * abreast + GAP * (abreast - 1)
    captions = [[wrap(tile.caption, small, width) for tile in section.tiles] for section in sections]
    below = GAP + LINE * max(len(lines) for tiles in captions for lines in tiles)
    sheet_width = MARGIN + columns * (width + MARGIN)

    parts = []
    for section, lines in zip(sections, captions, strict=True):
        above = LINE if section.labels else 0
        height = above + side + below + MARGIN
        title = TITLE + MARGIN if section.title else 0
        part = Image.new("RGB", (sheet_width, MARGIN + title + math.ceil(len(section.tiles) / columns) * height), PAPER)
        pen = ImageDraw.Draw(part)
        pen.text((MARGIN, MARGIN), cut(section.title, large, sheet_width - 2 * MARGIN), INK, font=large)
        for index, (tile, caption) in enumerate(zip(section.tiles, lines, strict=True)):
            left, top = MARGIN + index % columns * (width + MARGIN), MARGIN + title + index // columns * height
            for place, image in enumerate(tile.images):
                x = left + place * (side + GAP)
                pen.text((x, top), section.labels[place] if section.labels else "", GREY, font=small)
                part.paste(fit(image, side), (x, top + above))
            for number, line in enumerate(caption):
                pen.text((left, top + above + side + GAP + number * LINE), line, INK, font=small)
        parts.append(part)

    return stacked(parts)


def stacked(parts: list[Image.Image]) -> Image.Image:
    """Pictures of one width, one below the other."""
    sheet = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def side_of(image: Image.Image) -> int:
    """The `side` that shows generated pictures of this one's size best: its own, within 128 and 256 pixels."""
    return min(256, max(128, *image.size))


def wrap(caption: str, font: Font, width: int, lines: int = 3) -> list[str]:
    """The caption in at most so many lines of at most `width` pixels; a word that is too long is cut."""
    wrapped: list[str] = []
    rest = spell(caption.encode(errors="replace").decode()) or "(no prompt)"
    while rest and len(wrapped) < lines:
        words = rest.split(" ")
        fitting = 1
        while fitting < len(words) and font.getlength(" ".join(words[: fitting + 1])) <= width:
            fitting += 1
        line, rest = " ".join(words[:fitting]), " ".join(words[fitting:])
        if len(wrapped) == lines - 1 and rest:
            line, rest = f"{line} ...", ""
        wrapped.append(cut(line, font, width))
    return wrapped


def cut(line: str, font: Font, width: int) -> str:
    """The line, shortened to at most `width` pixels by dots at its end."""
    if font.getlength(line) <= width:
        return line
    kept = line.removesuffix(" ...")
    while kept and font.getlength(f"{kept}...") > width:
        kept = kept[:-1]
    return f"{kept.rstrip()}..."


def fit(image: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side of `side` pixels; a small one is enlarged without smoothing."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


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
