"""colour-heads keeps the promises of a masked transformer, and its colours are products of channels."""

from __future__ import annotations

import pytest
import torch
from muse_studio import testing

from muse_pixel_art.palette import LEVELS
from muse_pixel_art.transformer import ColourHeads, joined


class TestColourHeads(testing.TransformerContract):
    grid = (4, 4)

    def make(self) -> ColourHeads:
        return ColourHeads(grid=[4, 4], text_width=8, width=16, layers=1)


def test_a_colour_s_probability_is_the_product_of_its_channels() -> None:
    channels = torch.randn(2, 3 * LEVELS, generator=torch.Generator().manual_seed(0))
    red, green, blue = (part.softmax(-1) for part in channels.chunk(3, -1))
    got = joined(channels).softmax(-1)
    for code in range(LEVELS**3):
        r, g, b = code // 16, code // 4 % 4, code % 4
        torch.testing.assert_close(got[:, code], red[:, r] * green[:, g] * blue[:, b])


@pytest.mark.parametrize("settings", [{"heads": 5}, {"grid": [4]}, {"layers": 0}])
def test_a_setting_that_can_t_be_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"heads is 5|every size"):
        ColourHeads(**settings)
