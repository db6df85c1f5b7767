"""Captions say exactly what is drawn: what is counted, placed, recoloured and behind is measured in the pixels."""

import re

import numpy as np
import pytest
from muse_emoji import canvas, captions
from muse_emoji.captions import countable, plural, with_article
from muse_emoji.dataset import Emoji
from muse_emoji.pairs import Pair
from PIL import Image

NUMBERS = {"two": 2, "three": 3, "four": 4}


def records(packages, **settings):
    data = Emoji(**{"size": 32, "root": str(packages), "styles": ["noto"], "variants": 6} | settings)
    return [
        (record["image"].permute(1, 2, 0).numpy(), record["caption"])
        for record in map(data.__getitem__, range(len(data)))
    ]


def blobs(mask):
    """How many pieces of a bool[S, S] hang together."""
    left, count = {tuple(place) for place in np.argwhere(mask)}, 0
    while left:
        count, queue = count + 1, [left.pop()]
        while queue:
            y, x = queue.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            queue += near
    return count


def behind(image):
    return tuple(int(value) for value in image[0, 0])


def differs(image, colour, by=40):
    return np.abs(image.astype(int) - np.asarray(colour)).max(-1) > by


def near(image, colour):
    return ~differs(image, colour, 60)


def hue(image):
    return np.asarray(Image.fromarray(image).convert("HSV"))[..., 0]


def told_background(caption):
    found = re.search(r" on an? ([a-z ]+) background", caption)
    return canvas.BACKGROUNDS[found[1]] if found else canvas.WHITE


def test_the_first_records_are_plain_on_white_under_label_and_style(packages, colour_of):
    data = Emoji(size=32, root=str(packages), styles=["noto", "fluent 3d"], variants=2)
    for index in range(len(data) // 2):
        record = data[index]
        label, style = re.fullmatch(r"(\w+), (noto|fluent 3d) style", record["caption"]).groups()
        image = record["image"].permute(1, 2, 0).numpy()
        assert style in data.styles
        assert tuple(image[0, 0]) == (255, 255, 255)
        assert np.abs(image[16, 16].astype(int) - colour_of[label]).max() <= 2


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_background_is_the_one_that_is_told(packages, share):
    told = [(image, caption) for image, caption in records(packages, background=share, scenes=0.5)]
    plain = len(told) // 6
    for image, caption in told:
        assert behind(image) == told_background(caption), caption
    assert sum("background" in caption for _, caption in told[plain:]) == share * (len(told) - plain)
    if share:
        assert len({behind(image) for image, _ in told}) == len(canvas.BACKGROUNDS) + 1


def test_as_many_as_are_told_and_where_they_are_told(packages, colour_of):
    counted = placed = 0
    scenes = records(packages, scenes=1.0, background=0.0, recoloured=0.0, variants=12)
    for image, caption in scenes[len(scenes) // 12 :]:
        shown = differs(image, canvas.WHITE)
        if number := re.match(r"(two|three|four) (\w+)s\b", caption):
            assert blobs(shown) == NUMBERS[number[1]], caption
            assert (near(image, colour_of[number[2]]) == shown).mean() > 0.9, caption
            counted += 1
            continue
        first, where, second = re.match(
            r"an? (\w+) (to the left of|to the right of|above|below) an? (\w+)", caption
        ).groups()
        assert blobs(shown) == 2, caption
        if first == second or np.abs(np.subtract(colour_of[first], colour_of[second])).max() < 130:
            continue  # too alike to be told apart by their colours
        here, there = (np.argwhere(near(image, colour_of[name])).mean(0) for name in (first, second))
        down, right = np.sign(np.round((here - there) / 8)).astype(int)
        expected = {"to the left of": (0, -1), "to the right of": (0, 1), "above": (-1, 0), "below": (1, 0)}[where]
        assert (down, right) == expected, caption
        placed += 1
    assert counted > 100 and placed > 50


def test_the_colour_is_the_one_that_is_told(packages):
    seen = set()
    told = records(packages, scenes=0.0, recoloured=1.0, background=0.0)
    for image, caption in told[len(told) // 6 :]:
        colour = re.search(rf"\b({'|'.join(canvas.HUES)}) \w+", caption)[1]
        assert abs(int(hue(image)[16, 16]) - canvas.HUES[colour]) <= 2, caption
        seen.add(colour)
    assert seen == set(canvas.HUES)


def test_several_things_of_another_colour(packages):
    found = 0
    for image, caption in records(packages, scenes=0.5, recoloured=0.5, background=0.0, variants=8):
        if number := re.match(rf"(two|three|four) ({'|'.join(canvas.HUES)}) \w+s\b", caption):
            solid = differs(image, canvas.WHITE, 150)
            assert blobs(solid) == NUMBERS[number[1]]
            assert np.abs(hue(image)[solid].astype(int) - canvas.HUES[number[2]]).max() <= 3
            found += 1
    assert found > 10


def test_the_style_is_told_mostly(packages):
    told = records(packages, styles=["twemoji"], variants=8)
    share = np.mean(["twemoji" in caption for _, caption in told])
    assert 0.8 < share < 1


def test_grey_things_are_not_turned():
    assert not canvas.tinted(np.full((4, 4, 4), 128, np.uint8))
    assert not canvas.tinted(np.zeros((4, 4, 4), np.uint8))
    red = np.zeros((4, 4, 4), np.uint8)
    red[..., 0] = red[..., 3] = 255
    assert canvas.tinted(red)
    assert canvas.recolour(red, "blue")[..., 2].min() > 200
    assert (canvas.recolour(red, "blue")[..., 3] == 255).all()


def test_half_transparent_pixels_are_mixed():
    picture = np.array([[[200, 0, 100, 128], [9, 9, 9, 0], [10, 20, 30, 255]]], np.uint8)
    assert canvas.flatten(picture, (100, 200, 0)).tolist() == [[[150, 100, 50], [100, 200, 0], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("apple", "apples"),
        ("box", "boxes"),
        ("cherry", "cherries"),
        ("key", "keys"),
        ("bus", "buses"),
        ("dish", "dishes"),
    ],
)
def test_plurals(one, many):
    assert plural(one) == many


def test_articles():
    assert (with_article("apple"), with_article("blue car"), with_article("orange")) == (
        "an apple",
        "a blue car",
        "an orange",
    )
    assert (with_article("hourglass"), with_article("unicorn"), with_article("umbrella")) == (
        "an hourglass",
        "a unicorn",
        "an umbrella",
    )


def pair(label, tags=(), group="things"):
    return Pair("noto", "noto", "1F600", label, tags, group)


@pytest.mark.parametrize(
    ("one", "able"),
    [
        (pair("red apple"), True),
        (pair("grapes"), False),
        (pair("keycap: 1"), False),
        (pair("boy", (), "people-body"), False),
    ],
)
def test_what_can_be_counted(one, able):
    assert countable(one) == able


def test_a_thing_of_another_colour_has_no_second_one_in_its_tags():
    random = np.random.default_rng(0)
    told = [captions.caption_of(pair("apple", ("red", "fruit", "deep red")), random, "blue") for _ in range(300)]
    assert all("blue" in each and "red" not in each for each in told)
    assert any("fruit" in each for each in told)
