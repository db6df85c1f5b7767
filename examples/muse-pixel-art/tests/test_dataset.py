"""sprites keeps the promises of a data set, and its pictures are in the palette, mirrored, as their captions say."""

from __future__ import annotations

import pytest
import torch
from muse_studio import testing

from muse_pixel_art.dataset import BODIES, PLACES, Sprites, drawings, paint
from muse_pixel_art.tokenizer import Palette


class TestSprites(testing.DatasetContract):
    def make(self) -> Sprites:
        return Sprites(size=24)


def test_each_combination_is_one_record() -> None:
    data = Sprites(size=12)
    captions = [data[index]["caption"] for index in range(len(data))]
    assert len(set(captions)) == len(captions) == 8 * 6 * 3
    assert captions[0] == "a red ghost by day"
    assert "an orange heart at night" in captions


def test_drawings_are_of_12_by_12_known_letters() -> None:
    assert len(drawings()) == 8
    for name, rows in drawings().items():
        assert [len(row) for row in rows] == [12] * 12, name
        assert set("".join(rows)) <= set(".ocdw"), name


def test_the_palette_loses_nothing_of_a_sprite() -> None:
    data, tokenizer = Sprites(size=96), Palette(block=8)
    image = data[77]["image"]
    again = tokenizer.decode(tokenizer.encode(image[None] / 255))
    assert torch.equal((again[0] * 255).round().byte(), image)


def test_a_sprite_has_its_colour_on_its_place() -> None:
    art = paint("heart", "pink", "at night")
    assert art[:, 4, 3].tolist() == list(BODIES["pink"][0])
    assert art[:, 0, 0].tolist() == list(PLACES["at night"])
    assert torch.equal(art, art.flip(2))


@pytest.mark.parametrize("size", [0, 20])
def test_a_size_that_can_t_be_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size is {size}"):
        Sprites(size=size)
