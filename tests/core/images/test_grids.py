import numpy as np
import pytest
from PIL import Image

from muse_studio.images.sheets import FIELD, PAPER, Block, grid_sheet

COLOURS = [["red", "lime"], ["blue", "cyan"], ["magenta", "yellow"]]


def areas(sheet, colour):
    """Top, left, bottom and right of a colour's pixels, and how many there are."""
    found = (np.asarray(sheet) == Image.new("RGB", (1, 1), colour).getpixel((0, 0))).all(-1)
    ys, xs = found.nonzero()
    return ys.min(), xs.min(), ys.max() + 1, xs.max() + 1, found.sum()


def coloured(title="a title", rows=("one", "two", "three"), columns=("left", "right")):
    cells = [[Image.new("RGB", (8, 8), colour) for colour in row] for row in COLOURS]
    return Block(title, list(rows), list(columns), cells)


@pytest.mark.parametrize("side", [16, 100])
def test_each_cell_stands_in_its_row_and_column_at_its_size(side):
    sheet = grid_sheet([coloured()], side=side)
    found = np.array([[areas(sheet, colour) for colour in row] for row in COLOURS])
    assert (found[..., 4] == side * side).all(), "each picture is whole and nothing covers it"
    assert (found[..., 2] - found[..., 0] == side).all() and (found[..., 3] - found[..., 1] == side).all()
    assert (np.diff(found[..., 0], axis=1) == 0).all() and (np.diff(found[..., 0], axis=0) >= side).all()
    assert (np.diff(found[..., 1], axis=0) == 0).all() and (np.diff(found[..., 1], axis=1) >= side).all()


def test_names_stand_left_of_rows_and_above_columns():
    sheet = grid_sheet([coloured("")], side=40)
    top, left = areas(sheet, "red")[:2]
    ink = np.asarray(sheet.convert("L")) < 200
    for row in range(3):
        assert ink[top + 43 * row : top + 43 * row + 40, :left].any()
    for column in range(2):
        assert ink[:top, left + 43 * column : left + 43 * column + 40].any()


def test_blocks_follow_each_other_and_each_has_its_title():
    one, two = grid_sheet([coloured()], side=32), grid_sheet([coloured(), coloured()], side=32)
    assert two.size == (one.width, 2 * one.height)
    assert two.crop((0, 0, *one.size)).tobytes() == one.tobytes()
    assert grid_sheet([coloured("")], side=32).height < one.height


@pytest.mark.parametrize(("words", "inked"), [("refused", True), ("", False)])
def test_a_cell_may_hold_words(words, inked):
    block = coloured()
    top, left, bottom, right, _ = areas(grid_sheet([block], side=64), "blue")
    block.cells[1][0] = words
    cell = np.asarray(grid_sheet([block], side=64))[top:bottom, left:right]
    assert (cell[0] == cell[0, 0]).all() and (cell[:, 0] == cell[0, 0]).all(), "its edge is the field's"
    assert tuple(cell[0, 0]) == Image.new("RGB", (1, 1), FIELD).getpixel((0, 0))
    assert (cell != cell[0, 0]).any() == inked


def test_a_picture_that_is_not_square_keeps_its_shape():
    block = Block("", ["x"], ["y"], [[Image.new("RGB", (40, 20), "red")]])
    sheet = grid_sheet([block], side=80)
    top, left, bottom, right, count = areas(sheet, "red")
    assert (right - left, bottom - top, count) == (80, 40, 3200)
    assert sheet.getpixel((left, top - 10)) == Image.new("RGB", (1, 1), PAPER).getpixel((0, 0))
