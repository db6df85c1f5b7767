"""Regions read from boxes and masks, taken to tokens and softened, each against what is counted by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from muse_studio.errors import UserError
from muse_studio.sampling.editing.region import feathered, grow, read_region, to_cells, touched


def masks(rows: st.SearchStrategy[int], columns: st.SearchStrategy[int]) -> st.SearchStrategy[torch.Tensor]:
    """bool[rows, columns], few or many of them True."""

    @st.composite
    def draw(each):
        generator = torch.Generator().manual_seed(each(st.integers(0, 2**32)))
        share = each(st.sampled_from([0.01, 0.1, 0.5, 0.95]))
        return torch.rand(each(rows), each(columns), generator=generator) < share

    return draw()


def chebyshev(region: torch.Tensor) -> torch.Tensor:
    """float[H, W]: how far the nearest True place is, counted in rings; brute force."""
    there = region.nonzero()
    everywhere = torch.ones_like(region).nonzero()
    if not len(there):
        return torch.full(region.shape, torch.inf)
    return (everywhere[:, None] - there).abs().amax(-1).amin(1).view(region.shape).float()


@pytest.mark.parametrize(
    ("given", "rows", "columns"),
    [
        ("2,1,3,4", (1, 5), (2, 5)),
        (" 2 , 1 , 3 , 4 ", (1, 5), (2, 5)),
        ("0,0,10,8", (0, 8), (0, 10)),
        ("-2,-1,4,3", (0, 2), (0, 2)),  # cut off at the left and above
        ("8,6,100,100", (6, 8), (8, 10)),  # and at the right and below
        ("9,7,1,1", (7, 8), (9, 10)),
    ],
)
def test_a_box_is_left_top_width_height(given, rows, columns):
    expected = torch.zeros(8, 10, dtype=torch.bool)
    expected[slice(*rows), slice(*columns)] = True
    assert torch.equal(read_region(given, 8, 10), expected)


def test_several_are_joined(here):
    Image.new("L", (10, 8)).save("black-but-one.png")
    mask = Image.new("L", (10, 8))
    mask.putpixel((9, 0), 255)
    mask.save("one.png")
    joined = read_region(["0,0,1,1", "one.png", "4,4,2,1"], 8, 10)
    assert joined.nonzero().tolist() == [[0, 0], [0, 9], [4, 4], [4, 5]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("10,0,5,5", "region: the box 10,0,5,5 lies outside the picture, which has 10x8 pixels"),
        ("0,-5,5,5", "region: the box 0,-5,5,5 lies outside the picture, which has 10x8 pixels"),
        ("0,0,0,5", "region: the box 0,0,0,5 has no pixel; give x,y,w,h with w and h of 1 or more"),
        ("0,0,5,-1", "region: the box 0,0,5,-1 has no pixel; give x,y,w,h with w and h of 1 or more"),
        ("0,0,5", "region: '0,0,5' is no box; give x,y,w,h, four whole numbers of pixels"),
        ("0,0,5.5,5", "region: '0,0,5.5,5' is no box; give x,y,w,h, four whole numbers of pixels"),
        ([], "region: nothing is to change; give a mask that is white somewhere, or a box x,y,w,h"),
        ("mask.png", "region: there is no file mask.png; give the path of a picture"),
        (["0,0,1,1", "10,0,5,5"], "region: the box 10,0,5,5 lies outside the picture, which has 10x8 pixels"),
    ],
)
def test_a_box_that_cannot_be_is_told(here, given, message):
    with pytest.raises(UserError) as caught:
        read_region(given, 8, 10)
    assert str(caught.value) == message


def test_a_mask_is_white_where_new_pixels_go(here):
    shades = np.array([[0, 127, 128, 255]], np.uint8)
    Image.fromarray(shades).save("mask.png")
    assert read_region("mask.png", 1, 4).tolist() == [[False, False, True, True]]


def test_a_mask_of_another_size_is_scaled_and_that_is_said(here):
    mask = Image.new("1", (4, 4))
    mask.paste(1, (0, 0, 2, 4))
    mask.save("mask.png")
    with pytest.warns(UserWarning, match=r"^region: mask.png has 4x4 pixels, the picture 10x8; it was scaled$"):
        region = read_region("mask.png", 8, 10)
    assert region[:, :5].all() and not region[:, 5:].any()


def test_a_black_mask_is_refused_and_a_white_one_takes_all(here):
    Image.new("L", (10, 8)).save("black.png")
    Image.new("L", (10, 8), 255).save("white.png")
    with pytest.raises(UserError, match=r"^region: nothing is to change; give a mask that is white somewhere"):
        read_region("black.png", 8, 10)
    with pytest.warns(UserWarning, match=r"^region: white.png is white everywhere; nothing of the picture is kept$"):
        assert read_region("white.png", 8, 10).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_region("0,0,10,8", 8, 10).all()


@settings(max_examples=40)
@given(st.data(), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_a_token_is_in_the_region_where_any_of_its_pixels_is(data, high, wide, dilate):
    """Against loops over tokens and their pixels; the ring is by distance."""
    h, w = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    region = data.draw(masks(st.just(h * high), st.just(w * wide)))
    touching = torch.tensor(
        [[bool(region[y * high : (y + 1) * high, x * wide : (x + 1) * wide].any()) for x in range(w)] for y in range(h)]
    )
    expected = chebyshev(touching) <= dilate
    assert torch.equal(to_cells(region, (h, w), dilate), expected)
    assert torch.equal(to_cells(region[None], (h, w), dilate)[0], expected)


@settings(max_examples=40)
@given(masks(st.integers(1, 9), st.integers(1, 9)), st.integers(1, 12), st.integers(1, 12))
def test_areas_of_two_grids_are_in_touch_where_they_overlap(region, h, w):
    """In whole numbers: place i of n covers i / n to (i + 1) / n of a side."""
    rows, columns = region.shape

    def overlap(i, n, j, m):
        return i * m < (j + 1) * n and j * n < (i + 1) * m

    expected = [
        [
            any(overlap(y, h, j, rows) and overlap(x, w, i, columns) for j, i in region.nonzero().tolist())
            for x in range(w)
        ]
        for y in range(h)
    ]
    assert touched(region, (h, w)).tolist() == expected


@settings(max_examples=40)
@given(masks(st.integers(1, 30), st.integers(1, 30)), st.integers(0, 40))
def test_a_feather_is_one_inside_zero_beyond_and_falls_between(region, width):
    weight, distance = feathered(region, width), chebyshev(region)
    assert weight.dtype == torch.float32 and weight.shape == region.shape
    assert (weight[region] == 1).all()
    assert (weight[distance > width] == 0).all()
    assert weight.min() >= 0 and weight.max() <= 1
    if width < 2:  # less than a pixel to each side
        assert torch.equal(weight, region.float())


def test_a_feather_s_slope_by_hand():
    """One edge, feather 4: grown by 2, then the mean of 5: fifths."""
    region = torch.zeros(1, 12, dtype=torch.bool)
    region[0, :4] = True
    expected = torch.tensor([[1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0]])
    torch.testing.assert_close(feathered(region, 4), expected)


def test_more_rings_than_the_picture_has_pixels_take_all_of_it():
    region = torch.zeros(5, 9, dtype=torch.bool)
    region[0, 0] = True
    assert grow(region, 10**9).all()
    assert (feathered(region, 10**9) == 1).all()
