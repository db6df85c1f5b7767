"""Pieces of a mask against a search by hand."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_studio.images.pieces import label_pieces, split_pieces


def by_search(mask):
    """The pieces as sets of places: from each place to those beside it, as far as it goes."""
    left, found = {tuple(place) for place in mask.nonzero().tolist()}, []
    while left:
        piece, queue = set(), [left.pop()]
        while queue:
            y, x = queue.pop()
            piece.add((y, x))
            beside = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= beside
            queue += beside
        found.append(piece)
    return found


def places(mask):
    return {tuple(place) for place in mask.nonzero().tolist()}


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 0.9))
@settings(max_examples=60, deadline=None)
def test_pieces_are_those_of_a_search(seed, height, width, share):
    mask = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < share
    pieces = split_pieces(mask)
    assert sorted(map(sorted, map(places, pieces))) == sorted(map(sorted, by_search(mask)))
    sizes = [int(piece.sum()) for piece in pieces]
    assert sizes == sorted(sizes, reverse=True)


def test_a_spiral_is_one_piece_and_corners_that_touch_are_two():
    rows = [
        "#########",
        "........#",
        "#######.#",
        "#.....#.#",
        "#.###.#.#",
        "#.#...#.#",
        "#.#####.#",
        "#.......#",
        "#########",
    ]
    spiral = torch.tensor([[letter == "#" for letter in row] for row in rows])
    assert len(split_pieces(spiral)) == 1
    assert len(split_pieces(torch.eye(2, dtype=torch.bool))) == 2


def test_each_mask_of_a_batch_is_by_itself():
    masks = torch.zeros(3, 4, 5, dtype=torch.bool)
    masks[0], masks[1, 0, 0], masks[1, 3, 4] = True, True, True
    labels = label_pieces(masks)
    assert labels.dtype == torch.int64
    assert [len(each.unique()) for each in labels] == [1, 3, 1]
    assert (labels > 0).equal(masks)
    assert split_pieces(masks[2]) == []
