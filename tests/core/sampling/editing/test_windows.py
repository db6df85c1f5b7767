"""Pictures of any shape before a model of one: sizes, alignment, and the order of windows against brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_studio.contracts import MASK
from muse_studio.errors import UserError
from muse_studio.sampling.editing.windows import Layout, sample_windows, windows
from muse_studio.stage import Stage
from muse_studio.testing import fakes, tiny_stage


def stage(size: int | list[int], **parts: object) -> Stage:
    return tiny_stage(size, **{"sampler": fakes.FakeSampler(steps=2)} | parts)


TWO = {"base": stage(32), "large": stage(64)}  # 8x8 and 16x16 tokens: cells of 4 pixels, and of 8


def test_a_square_is_one_window():
    for side in (1, 63, 64, 500):
        layout = Layout.of(TWO, (side, side))
        assert (layout.cells, layout.window, layout.share) == ((8, 8), (8, 8), (1, 1))
        assert [layout.grid(each) for each in TWO.values()] == [(8, 8), (16, 16)]
        assert [layout.size(each) for each in TWO.values()] == [(32, 32), (64, 64)]


def test_other_shapes_are_kept_by_whole_cells_filled_up():
    """100 x 130 pixels: scaled by 0.64 to 64 x 83.2, which is 10.4 cells of 8 pixels, so 11."""
    layout = Layout.of(TWO, (100, 130))
    assert layout.cells == (8, 11)
    assert layout.share == pytest.approx((1, 10.4 / 11))
    assert layout.size(TWO["large"]) == (64, 88) and layout.grid(TWO["base"]) == (8, 11)
    assert Layout.of(TWO, (130, 100)).cells == (11, 8)
    assert Layout.of(TWO, (100, 130), (50, 65)).cells == (16, 21)  # twice the scale: 20.8 cells


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400))
def test_the_scaled_picture_covers_a_window_and_fits_the_plane(height, width):
    layout = Layout.of(TWO, (height, width))
    large = TWO["large"]
    scaled = [share * side for share, side in zip(layout.share, layout.size(large), strict=True)]
    assert min(scaled) == pytest.approx(64, abs=0.02)  # the shorter side is the model's
    assert scaled[0] / scaled[1] == pytest.approx(height / width, rel=0.01)
    filled_up = [side - used for side, used in zip(layout.size(large), scaled, strict=True)]
    assert all(-0.01 <= each < 8 for each in filled_up)  # less than one cell


def test_what_no_machine_could_decode_is_refused():
    with pytest.raises(UserError) as caught:
        Layout.of(TWO, (1, 20_000))
    assert str(caught.value) == (
        "picture: scaled to the model's 64x64, 20000x1 pixels would be 81,920,000, and 16,777,216 is the most; "
        "cut out a part that is less long"
    )
    assert Layout.of(TWO, (40, 20_000)).cells == (8, 4000)


@settings(max_examples=30)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32))
def test_a_picture_and_its_region_come_back_in_their_size(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
    region = torch.rand(height, width, generator=generator) < 0.05
    layout = Layout.of(TWO, (height, width))
    for each in TWO.values():
        laid, covered = layout.to_stage(pixels, each), layout.region_to_stage(region, each)
        assert laid.shape == (1, 3, *layout.size(each)) and laid.dtype == torch.uint8
        assert covered.shape == layout.size(each) and covered.dtype == torch.bool
        assert layout.to_picture(laid, each).shape == pixels.shape
        back = layout.region_to_picture(covered, each)
        assert back.shape == region.shape
        assert (back | ~region).all()  # nothing of a region is lost


@settings(max_examples=20)
@given(st.integers(64, 130), st.integers(0, 2**32), st.booleans())
def test_where_no_scaling_is_needed_not_a_bit_changes(length, seed, upright):
    shape = (length, 64) if upright else (64, length)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (3, *shape), generator=generator, dtype=torch.uint8)
    region = torch.rand(shape, generator=generator) < 0.1
    layout, large = Layout.of(TWO, shape), TWO["large"]
    laid = layout.to_stage(pixels, large)
    assert torch.equal(laid[0, :, : shape[0], : shape[1]], pixels)
    assert torch.equal(layout.to_picture(laid, large), pixels)
    assert torch.equal(layout.region_to_stage(region, large)[: shape[0], : shape[1]], region)
    assert torch.equal(layout.region_to_picture(layout.region_to_stage(region, large), large), region)


def test_what_is_filled_up_repeats_the_border():
    pixels = torch.arange(64 * 66).remainder(251).byte().view(1, 64, 66).expand(3, -1, -1)
    laid = Layout.of(TWO, (64, 66)).to_stage(pixels, TWO["large"])
    assert laid.shape == (1, 3, 64, 72)
    assert torch.equal(laid[0, :, :, 66:], pixels[:, :, -1:].expand(-1, -1, 6))


def test_stages_that_are_no_squares_and_of_unlike_grids():
    """4x4 and 8x6 tokens: cells are quarters of the height and halves of the width."""
    stages = {"base": stage(16), "large": stage([32, 24])}
    layout = Layout.of(stages, (32, 60))
    assert layout.window == (4, 2) and layout.cells == (4, 5)
    assert [layout.grid(each) for each in stages.values()] == [(4, 10), (8, 15)]
    assert [layout.size(each) for each in stages.values()] == [(16, 40), (32, 60)]


def greedy(hidden: set[tuple[int, int]], corners: list[tuple[int, int]], window: tuple[int, int]) -> list:
    """In sets: always the window with the fewest hidden places, of equal ones the first in reading order."""
    order = []
    while hidden:
        inside = {
            (top, left): {(y, x) for y, x in hidden if top <= y < top + window[0] and left <= x < left + window[1]}
            for top, left in corners
        }
        best = min((corner for corner in corners if inside[corner]), key=lambda corner: len(inside[corner]))
        hidden = hidden - inside[best]
        order.append(best)
    return order


@settings(max_examples=40)
@given(st.integers(5, 16), st.integers(5, 16), st.integers(0, 2**32), st.sampled_from([0.02, 0.3, 1.1]))
def test_windows_go_greedily_from_what_is_known(rows, columns, seed, share):
    hidden = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < share
    window = (5, 4)
    steps = ([*range(0, rows - 5, 2), rows - 5], [*range(0, columns - 4, 2), columns - 4])  # half of 5, rounded down
    corners = sorted({(top, left) for top in steps[0] for left in steps[1]})
    order = windows(hidden, window)
    assert order == greedy(set(map(tuple, hidden.nonzero().tolist())), corners, window)
    covered = torch.zeros_like(hidden)
    for top, left in order:
        assert 0 <= top <= rows - 5 and 0 <= left <= columns - 4
        covered[top : top + 5, left : left + 4] = True
    assert (covered | ~hidden).all()


def test_an_outpainting_goes_outwards_and_each_window_starts_from_known_tokens():
    hidden = torch.ones(8, 40, dtype=torch.bool)
    hidden[:, 16:24] = False  # the picture is in the middle
    known = ~hidden
    for top, left in windows(hidden, (8, 8)):
        seen = known[top : top + 8, left : left + 8]
        assert seen.sum() == 32  # half of it
        seen.fill_(True)
    assert known.all()


def test_nothing_hidden_needs_no_window():
    assert windows(torch.zeros(8, 8, dtype=torch.bool), (8, 8)) == []


class Spy(fakes.FakeTransformer):
    """Remembers the low-resolution tokens that it was given."""

    def condition(self, text, low=None):
        if low is not None:
            self.seen.append(low.clone())
        return super().condition(text, low)


@pytest.mark.parametrize(
    ("base", "large", "picture"),
    [
        (32, 64, (64, 200)),
        (20, 40, (40, 130)),
        (16, [32, 24], (50, 60)),
        (32, 48, (48, 130)),
        ([16, 24], [32, 48], (90, 48)),
    ],
)
def test_a_later_stage_s_window_sees_the_tokens_beneath_it(base, large, picture):
    """The low tokens count their own places, so each window must be given those at its own share of the plane."""
    spy = Spy()
    spy.seen = []
    stages = {"base": stage(base), "large": stage(large, transformer=spy)}
    layout = Layout.of(stages, picture)
    rows, columns = layout.grid(stages["base"])
    low = torch.arange(rows * columns).view(1, rows, columns) % 64
    blank = torch.full((1, *layout.grid(stages["large"])), MASK)
    corners = layout.corners(stages["large"], blank[0] == MASK)
    assert len(corners) > 1
    grids = list(
        sample_windows(layout, stages["large"], blank, fakes.embedding(1), torch.Generator().manual_seed(0), low=low)
    )
    assert len(grids) == 2 * len(corners) and (grids[-1] != MASK).all()
    for (top, left), seen in zip(corners, spy.seen[::2], strict=True):  # the prompt's and the unprompted one
        y, x = top * rows / blank.shape[1], left * columns / blank.shape[2]
        assert y == int(y) and x == int(x)  # on whole tokens of both
        h, w = stages["base"].grid
        assert torch.equal(seen, low[:, int(y) : int(y) + h, int(x) : int(x) + w])


def test_a_window_knows_what_the_ones_before_it_filled():
    """A transformer that copies: a place is the code of the known ones, so that one spreads through all windows."""

    class Copy(fakes.FakeTransformer):
        def forward(self, tokens, conditioning):
            known = tokens.clamp(min=0).amax((1, 2))
            logits = torch.zeros(*tokens.shape, self.codebook_size)
            logits[..., known] = 1e4
            return logits

    only = {"base": stage(32, transformer=Copy())}
    layout = Layout.of(only, (32, 160))
    tokens = torch.full((1, *layout.grid(only["base"])), MASK)
    tokens[0, 0, 0] = 37
    *_, filled = sample_windows(layout, only["base"], tokens, fakes.embedding(1), torch.Generator().manual_seed(0))
    assert (filled == 37).all()
