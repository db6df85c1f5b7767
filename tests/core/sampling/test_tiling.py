"""Tiled decoding: the same as untiled where the decoder looks no further than it may, without edges where it does."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d, interpolate

from muse_studio.sampling.stage import LEAST
from muse_studio.sampling.tiling import overlap, starts, tiled

STRIDE = 8


def local(tokens, reach=4):
    """Pixels that are means of what lies within `reach` pixels."""
    pixels = interpolate(tokens[:, None].float().expand(-1, 3, -1, -1), scale_factor=STRIDE)
    return avg_pool2d(pixels, 2 * reach + 1, 1, reach, count_include_pad=False)


@given(st.integers(1, 70), st.integers(LEAST, 40))
def test_tiles_cover_a_side_and_share_a_quarter(side, tile):
    at = starts(side, tile)
    assert at[0] == 0 and at[-1] == max(0, side - tile)
    assert all(1 <= after - before <= tile - overlap(tile) for before, after in pairwise(at))


@pytest.mark.parametrize("shape", [(8, 8), (20, 8), (9, 31), (5, 30), (24, 24)])
def test_a_local_decoder_draws_the_same(shape):
    tokens = torch.randint(100, (2, *shape), generator=torch.Generator().manual_seed(0))
    seen = []

    def decode(part):
        seen.append(tuple(part.shape[1:]))
        return local(part)

    torch.testing.assert_close(tiled(decode, tokens, 8), local(tokens), atol=1e-4, rtol=1e-5)
    assert max(max(each) for each in seen) <= 8
    assert torch.equal(tiled(local, tokens, 100), local(tokens))


def test_what_a_decoder_does_over_the_whole_leaves_no_edge():
    """A picture divided by its own mean: each tile has a mean of its own."""
    tokens = torch.full((1, 8, 40), 10)
    tokens[..., 20:] = 30
    seen = []

    def decode(part):
        seen.append(local(part) / local(part).mean())
        return seen[-1]

    flat = tiled(decode, tokens, 16)[0, 0, 0, : 16 * STRIDE]  # left of where the tokens change
    first, second = (each[0, 0, 0, 0].item() for each in seen[:2])
    assert flat[0] == first and flat.min() == pytest.approx(second)
    assert first - second > 0.1
    assert -flat.diff().min() < (first - second) / (overlap(16) * STRIDE / 2) * 1.01
