"""Which tokens an editor hides, and how often: counted, over random regions and seeds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from muse_editing.editors import Inpaint, MaskFree, Variations, random_part

from muse_studio.contracts import MASK

NEW = 99
"""The code that these tests fill in."""


def edit(editor, tokens, region, seed=0):
    """The grids that an edit yields, and those that it had filled."""
    asked = []

    def resample(masked: torch.Tensor) -> Iterator[torch.Tensor]:
        asked.append(masked.clone())
        yield masked
        yield masked.masked_fill(masked == MASK, NEW)

    return list(editor(tokens, region, resample, torch.Generator().manual_seed(seed))), asked


def test_inpainting_hides_the_region_once_and_shows_each_step():
    tokens, region = torch.arange(12).view(1, 3, 4), torch.zeros(1, 3, 4, dtype=torch.bool)
    region[0, 1, 1:3] = True
    grids, asked = edit(Inpaint(), tokens, region)
    assert len(grids) == 2 and len(asked) == 1
    assert asked[0].tolist() == [[[0, 1, 2, 3], [4, MASK, MASK, 7], [8, 9, 10, 11]]]
    assert grids[-1].tolist() == [[[0, 1, 2, 3], [4, NEW, NEW, 7], [8, 9, 10, 11]]]


@pytest.mark.parametrize(
    ("fraction", "places", "hidden"),
    [(0.08, 64, 6), (0.08, 256, 21), (0.07, 100, 7), (0.5, 5, 3), (1.0, 64, 64), (0.001, 64, 1), (1e-12, 64, 1)],
)
def test_mask_free_hides_a_fraction_rounded_up_in_every_iteration(fraction, places, hidden):
    """8% of 64 is 5.12: 6. What floating point adds to 0.07 x 100 is no reason for an eighth."""
    tokens, region = torch.zeros(1, 1, places, dtype=torch.int64), torch.ones(1, 1, places, dtype=torch.bool)
    grids, asked = edit(MaskFree(fraction=fraction, iterations=7), tokens, region)
    assert len(grids) == len(asked) == 7
    assert [int((masked == MASK).sum()) for masked in asked] == [hidden] * 7


def test_mask_free_goes_on_from_what_it_drew_and_chooses_anew():
    tokens, region = torch.zeros(1, 8, 8, dtype=torch.int64), torch.ones(1, 8, 8, dtype=torch.bool)
    grids, asked = edit(MaskFree(iterations=20), tokens, region)
    for before, masked in zip([tokens, *grids], asked, strict=False):
        assert torch.equal(masked[masked != MASK], before[masked != MASK])
    assert len({tuple((masked == MASK).flatten().tolist()) for masked in asked}) == 20
    assert (grids[-1] == NEW).sum() > (grids[0] == NEW).sum() == 6


def test_each_picture_of_a_batch_has_its_own_share():
    region = torch.zeros(2, 8, 8, dtype=torch.bool)
    region[0, :, :5], region[1, 0, :3] = True, True  # 40 places, and 3
    _, asked = edit(Variations(0.5), torch.zeros(2, 8, 8, dtype=torch.int64), region)
    assert (asked[0] == MASK).sum((1, 2)).tolist() == [20, 2]


def test_the_ends_of_a_variation_s_strength():
    tokens, region = torch.arange(64).view(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    grids, asked = edit(Variations(0), tokens, region)
    assert len(grids) == 1 and torch.equal(grids[0], tokens) and asked == []
    _, asked = edit(Variations(1), tokens, region)
    assert (asked[0] == MASK).all()


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.integers(1, 100))
def test_a_share_is_drawn_by_lot_within_the_region(seed, h, w, percent):
    generator = torch.Generator().manual_seed(seed)
    region = torch.rand(3, h, w, generator=generator) < 0.6
    chosen = random_part(region, percent / 100, generator)
    assert not (chosen & ~region).any()
    expected = [-(-int(each) * percent // 100) for each in region.sum((1, 2))]  # whole numbers, rounded up
    assert chosen.sum((1, 2)).tolist() == expected


def test_every_place_is_as_likely_as_another():
    """10,000 draws of 2 of 8 places: each is expected 2,500 times, with a standard deviation of 43."""
    region = torch.ones(10_000, 2, 4, dtype=torch.bool)
    counts = random_part(region, 0.25, torch.Generator().manual_seed(0)).sum(0)
    assert ((counts - 2500).abs() < 5 * 43).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskFree(fraction=0), "fraction is 0; give a share of the tokens, above 0 and up to 1"),
        (lambda: MaskFree(fraction=1.1), "fraction is 1.1; give a share of the tokens, above 0 and up to 1"),
        (lambda: MaskFree(iterations=0), "iterations is 0; give 1 or more"),
        (lambda: Variations(2), "strength is 2; give 0 (keeps the picture) to 1 (forgets it)"),
        (lambda: Variations(-0.1), "strength is -0.1; give 0 (keeps the picture) to 1 (forgets it)"),
        (lambda: Variations(float("nan")), "strength is nan; give 0 (keeps the picture) to 1 (forgets it)"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
