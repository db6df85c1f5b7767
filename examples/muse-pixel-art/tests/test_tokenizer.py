"""palette keeps the promises of a tokenizer, and gives pixel art back exactly."""

from __future__ import annotations

import pytest
import torch
from muse_studio import testing

from muse_pixel_art.palette import join, split
from muse_pixel_art.tokenizer import Palette


class TestPalette(testing.TokenizerContract):
    def make(self) -> Palette:
        return Palette()


def test_codes_are_levels_of_red_green_and_blue() -> None:
    assert join(torch.tensor([[3, 0, 0], [0, 3, 0], [1, 2, 3]])).tolist() == [48, 12, 16 + 8 + 3]
    codes = torch.arange(64)
    assert torch.equal(join(split(codes)), codes)


def test_a_picture_in_the_palette_s_colours_comes_back_exactly() -> None:
    tokenizer = Palette(block=4)
    codes = torch.randperm(64, generator=torch.Generator().manual_seed(0)).view(1, 8, 8)
    picture = tokenizer.decode(codes)
    assert picture.shape == (1, 3, 32, 32)
    assert torch.equal(tokenizer.encode(picture), codes)
    assert torch.equal(tokenizer.decode(tokenizer.encode(picture)), picture)


def test_a_block_that_can_t_be_is_refused() -> None:
    with pytest.raises(ValueError, match="block is 0"):
        Palette(block=0)
