"""Figures show what they were given: colours, counts of cells, and which place is not known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from muse_studio.images import figures

HIDDEN = ImageColor.getrgb(figures.HIDDEN)


def share(image, colour, near=3):
    """Of all pixels, those of about that colour."""
    return float((np.abs(np.asarray(image).astype(int) - colour).max(-1) <= near).mean())


def filled(*colours):
    return torch.tensor(colours, dtype=torch.float32)[:, :, None, None].expand(-1, 3, 16, 16)


@pytest.mark.parametrize("given", ["tensor", "images"])
def test_each_picture_takes_its_share(given):
    pictures = filled((1, 0, 0), (0, 0, 1), (0, 0, 1))
    if given == "images":
        pictures = [Image.new("RGB", (16, 16), colour) for colour in ("#ff0000", "#0000ff", "#0000ff")]
    shown = figures.pictures(pictures)
    red, blue = share(shown, (255, 0, 0)), share(shown, (0, 0, 255))
    assert red > 0.25 and blue == pytest.approx(2 * red, rel=0.05)


def test_columns_make_rows():
    pictures = filled(*[(0, 0, 0)] * 6)
    one_row, two_rows = figures.pictures(pictures), figures.pictures(pictures, columns=3)
    assert one_row.width > 1.7 * two_rows.width and two_rows.height > 1.7 * one_row.height


def test_titles_and_a_heading_need_room():
    plain, titled = figures.pictures(filled((1, 0, 0))), figures.pictures(filled((1, 0, 0)), ["red"])
    headed = figures.pictures(filled((1, 0, 0)), ["red"], heading="colours")
    assert plain.height < titled.height < headed.height


def test_a_lattice_crosses_the_picture():
    plain, crossed = (figures.pictures(filled((1, 0, 0)), lattice=lattice) for lattice in (0, 4))
    assert share(crossed, (255, 0, 0)) < share(plain, (255, 0, 0)) - 0.02


def test_masked_tokens_are_grey_cells():
    tokens = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert share(figures.tokens(tokens), HIDDEN) < 0.02
    tokens[0, :2] = -1
    assert share(figures.tokens(tokens), HIDDEN) == pytest.approx(0.5, abs=0.1)


def test_a_picture_shines_through_its_tokens():
    shown = figures.tokens(torch.zeros(1, 4, 4, dtype=torch.int64), filled((1, 0, 0)))
    pale = (255, *[round(255 * 140 / 255)] * 2)
    assert share(shown, pale, near=4) > 0.5


def test_a_map_has_a_scale_and_what_is_not_known_is_grey():
    values = torch.tensor([[[0.0, 1.0], [math.nan, 1.0]]])
    shown = figures.maps(values, label="nats")
    least, greatest = (68, 1, 84), (253, 231, 37)  # viridis' ends
    assert share(shown, greatest) > 1.5 * share(shown, least) > 0
    assert share(shown, HIDDEN) == pytest.approx(share(shown, least), rel=0.3)
    assert share(figures.maps(values, bounds=(-10.0, 10.0)), greatest) < 0.05


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.pictures(filled((1, 0, 0)), ["one", "two"]), "2 titles for 1 panels"),
        (lambda: figures.pictures([]), "nothing to show"),
        (lambda: figures.maps(torch.full((1, 2, 2), math.nan)), "only NaN"),
    ],
)
def test_what_cannot_be_shown_is_said(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
