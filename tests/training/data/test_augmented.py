"""Augmented records: the first variant as it is, the others by a lot that the seed and the index decide alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from muse_training.data.augmented import Augmented
from muse_training.data.pictures import UnusablePicture


class Ramps:
    """Pictures whose red is the column, green the row and blue the record's number."""

    def __init__(self, count=3, size=64):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        line = torch.arange(self.size, dtype=torch.uint8)
        image = torch.stack(
            [line.expand(self.size, -1), line[:, None].expand(-1, self.size), torch.full([self.size] * 2, index)]
        )
        return {"image": image.byte(), "caption": f"ramp {index}"}


def test_record_i_of_variant_v_is_of_picture_i():
    data = Augmented(Ramps(), variants=4)
    assert len(data) == 12
    for index in range(12):
        record = data[index]
        assert record["caption"] == f"ramp {index % 3}" and (record["image"][2] == index % 3).all()
        assert record["image"].shape == (3, 64, 64) and record["image"].dtype == torch.uint8
        plain = torch.equal(record["image"], Ramps()[index % 3]["image"])
        assert plain == (index < 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 11), st.floats(0.1, 1.0))
def test_a_crop_is_a_square_of_a_share_from_crop_to_one(seed, index, crop):
    image = Augmented(Ramps(), 4, crop, seed=seed)[index]["image"].float()
    middle = image[:, 8:-8, 8:-8]  # away from the edges, which bicubic sharpens
    across = (middle[0, :, -1] - middle[0, :, 0]).mean() / 47 * 64
    down = (middle[1, -1] - middle[1, 0]).mean() / 47 * 64
    assert across == pytest.approx(float(down), abs=3)
    assert crop**0.5 * 64 - 3 <= across <= 64 + 3


def test_the_seed_and_the_index_decide_alone():
    one, again, other = Augmented(Ramps()), Augmented(Ramps()), Augmented(Ramps(), seed=1)
    torch.manual_seed(0)
    first = [one[index]["image"] for index in range(12)]
    torch.manual_seed(1)
    assert all(torch.equal(again[index]["image"], first[index]) for index in reversed(range(12)))
    assert not any(torch.equal(other[index]["image"], first[index]) for index in range(3, 12))
    assert not torch.equal(first[3], first[6]), "two variants of one picture differ"


def test_flips_are_off_and_half_where_they_are_asked_for():
    def flipped(**more):
        data = Augmented(Ramps(1), 201, crop=1.0, **more)
        images = [data[index]["image"] for index in range(1, 201)]
        return sum(bool((image[0, :, 0] > image[0, :, -1]).all()) for image in images)

    assert flipped() == 0
    assert 70 < flipped(flip=True) < 130


def test_a_size_of_its_own_scales_down():
    data = Augmented(Ramps(), 2, size=16)
    assert data[0]["image"].shape == data[5]["image"].shape == (3, 16, 16)
    inner = data[0]["image"][:2, 2:-2, 2:-2].float()
    expected = torch.arange(2, 14) * 4 + 1.5  # each pixel covers four, whose columns have that mean
    torch.testing.assert_close(inner[0], expected.expand(12, 12), atol=1.0, rtol=0)


def test_a_broken_picture_is_told_in_every_variant():
    class Torn(Ramps):
        def candidates(self):
            return 3

        def attempt(self, index):
            if index == 1:
                raise UnusablePicture("one", "it is torn")
            return self[index]

    data = Augmented(Torn(), 2)
    assert data.candidates() == 6
    assert data.attempt(5)["caption"] == "ramp 2"
    for index in (1, 4):
        with pytest.raises(UnusablePicture, match="one: it is torn"):
            data.attempt(index)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"variants": 0}, "variants is 0; give 1 record a picture or more"),
        ({"crop": 0.0}, r"crop is 0\.0; it is a share of the area, above 0 and at most 1"),
        ({"crop": 1.5}, r"crop is 1\.5; it is a share"),
        ({"size": 0}, "size is 0; give the pixels of a side, from 1 to 8192"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
    ],
)
def test_settings_that_can_not_be(more, message):
    with pytest.raises(ValueError, match=message):
        Augmented(Ramps(), **more)


@pytest.mark.parametrize("index", [-1, 12])
def test_an_index_beyond_the_end(index):
    with pytest.raises(IndexError, match=f"record {index} of 12"):
        Augmented(Ramps())[index]
