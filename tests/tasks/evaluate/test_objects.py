"""The rules by which a canvas is looked at, on canvases painted by hand."""

from __future__ import annotations

import colorsys

import pytest
import torch
from muse_tasks.evaluate.shown.composition import by_kind, is_right
from muse_tasks.evaluate.shown.objects import background, centre, cut_out, find_things, hue, look_at, name_colour

HUES = {"red": 0.0, "yellow": 55.0, "green": 120.0, "blue": 220.0, "pink": 320.0}
RED, GREEN, BLUE, GREY = (220, 30, 30), (40, 180, 60), (40, 90, 220), (120, 120, 120)


def canvas(*squares, ground=(255, 255, 255), side=64):
    """uint8[3, side, side]: squares (left, top, size, colour) on a ground."""
    image = torch.tensor(ground, dtype=torch.uint8)[:, None, None].repeat(1, side, side)
    for left, top, size, colour in squares:
        image[:, top : top + size, left : left + size] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return image


def things(image):
    return find_things(look_at(image))


class ByColour:
    """A judge that takes red for an apple and blue for a car, the more there is of it."""

    things = ("car", "apple")

    def scores(self, images):
        pixels = images.double()
        return torch.stack([(pixels[:, 2] - pixels[:, 0]).mean((1, 2)), (pixels[:, 0] - pixels[:, 2]).mean((1, 2))], 1)


def case(kind, count=1, colour=None, direction=None, names=("apple",)):
    return {
        "kind": kind, "image": None, "caption": "", "things": list(names), "count": count, "colour": colour,
        "direction": direction, "hues": HUES,
    }  # fmt: skip


def right(asked, image):
    return is_right(asked, image, ByColour())


@pytest.mark.parametrize("ground", [(255, 255, 255), (20, 20, 20), (200, 220, 90)])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_things_are_counted_on_any_ground_and_at_any_size(count, ground):
    squares = [(4 + 14 * place, 20, 10, BLUE) for place in range(count)]
    small = canvas(*squares, ground=ground)
    large = small.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert len(things(small)) == len(things(large)) == count


def test_dirt_and_small_parts_are_no_things():
    assert len(things(canvas((10, 10, 30, RED), (50, 50, 8, RED)))) == 1, "less than a quarter of the largest"
    assert len(things(canvas((10, 10, 30, RED), (42, 42, 20, RED)))) == 2
    assert things(canvas((10, 10, 3, RED))) == [], "less than half a percent of the canvas"
    assert things(canvas()) == []
    assert things(canvas((10, 10, 30, (230, 230, 230)))) == [], "hardly another shade than the ground"


def test_a_thing_at_the_edge_does_not_become_the_ground():
    image = canvas((0, 20, 30, RED), (40, 20, 20, RED))
    assert background(look_at(image)).tolist() == [255, 255, 255]
    assert len(things(image)) == 2


def test_hues_are_those_of_the_colour_circle():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3, 500), generator=generator).double()
    pixels = pixels[:, pixels.amax(0) > pixels.amin(0)]
    expected = [360 * colorsys.rgb_to_hsv(*(pixel / 255))[0] for pixel in pixels.T.numpy()]
    assert hue(pixels).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("colour", "name"),
    [(RED, "red"), (GREEN, "green"), (BLUE, "blue"), (GREY, None), ((230, 20, 60), "red"), ((90, 20, 60), "pink")],
)
def test_a_colour_is_the_nearest_by_hue_round_the_circle(colour, name):
    image = look_at(canvas((10, 10, 40, colour)))
    assert name_colour(image, find_things(image)[0], HUES) == name


def test_the_colour_is_that_of_most_pixels_that_have_one():
    image = look_at(canvas((10, 10, 40, GREY), (10, 10, 20, GREEN), (32, 32, 10, RED)))
    assert name_colour(image, find_things(image)[0], HUES) == "green"
    faint = look_at(canvas((10, 10, 40, GREY), (20, 20, 10, GREEN)))
    assert name_colour(faint, find_things(faint)[0], HUES) is None, "too little of it"


def test_a_cut_out_thing_stands_alone_in_the_middle():
    image = look_at(canvas((4, 10, 20, RED), (40, 10, 12, BLUE), side=128))
    one, two = find_things(image)
    assert centre(one) == (13.5, 19.5)
    cut = cut_out(image, one)
    assert cut.shape == (3, 24, 24) and cut.dtype == torch.uint8
    assert torch.equal(cut, canvas((2, 2, 20, RED), side=24))
    assert torch.equal(cut_out(image, two), canvas((1, 1, 12, BLUE), side=14))


def test_counts_must_be_as_asked():
    three = canvas(*[(4 + 20 * place, 20, 14, RED) for place in range(3)])
    assert [right(case("count", count), three) for count in (2, 3, 4)] == [False, True, False]
    assert not right(case("count", 2), canvas())


def test_every_thing_must_have_the_colour():
    same, mixed = canvas((4, 20, 20, GREEN), (34, 20, 20, GREEN)), canvas((4, 20, 20, GREEN), (34, 20, 20, BLUE))
    both = "count and colour"
    assert right(case(both, 2, "green"), same) and not right(case(both, 2, "green"), mixed)
    assert not right(case(both, 3, "green"), same) and not right(case(both, 2, "blue"), same)
    assert right(case("colour", 1, "green"), same), "of one thing the pieces are taken together"
    assert right(case("colour", 1, "green"), canvas((4, 20, 24, GREEN), (34, 20, 20, GREY)))
    assert not right(case("colour", 1, "green"), canvas((10, 10, 40, GREY)))


@pytest.mark.parametrize("larger", ["apple", "car"])
@pytest.mark.parametrize(("x", "y"), [(-1, 0), (1, 0), (0, -1), (0, 1)])
def test_two_things_must_lie_as_asked_and_not_the_other_way_round(x, y, larger):
    apple = (22 + 16 * x, 22 + 16 * y, 20 if larger == "apple" else 16, RED)
    car = (22 - 16 * x, 22 - 16 * y, 20 if larger == "car" else 16, BLUE)
    image, names = canvas(apple, car), ("apple", "car")
    verdicts = {
        direction: right(case("position", 2, direction=direction, names=names), image)
        for direction in [(-1, 0), (1, 0), (0, -1), (0, 1)]
    }
    assert verdicts == {direction: direction == (x, y) for direction in verdicts}
    assert right(case("position", 2, direction=(-x, -y), names=names[::-1]), image)


def test_a_third_thing_or_an_unknown_one_is_not_placed():
    names = ("apple", "car")
    asked = case("position", 2, direction=(-1, 0), names=names)
    assert not right(asked, canvas((2, 20, 16, RED), (24, 20, 16, BLUE), (46, 20, 16, BLUE)))
    assert not right(asked, canvas((2, 20, 16, RED)))
    assert not right(asked | {"things": ["apple", "boat"]}, canvas((2, 20, 20, RED), (40, 20, 20, BLUE)))


def test_shares_are_by_kind():
    cases = [case("count"), case("colour"), case("count"), case("count")]
    assert by_kind(cases, [True, False, False, False]) == {"count": pytest.approx(1 / 3), "colour": 0.0}
