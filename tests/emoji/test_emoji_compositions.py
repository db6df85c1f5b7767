"""Canvases of which everything is known: the pixels are as the record says, and so is the caption."""

import re

import numpy as np
import pytest
import torch
from muse_emoji.canvas import HUES
from muse_emoji.compositions import DIRECTIONS, KINDS, stands_apart
from muse_emoji.dataset import Emoji

from muse_studio.errors import UserError
from muse_studio.images.pieces import split_pieces

NUMBERS = {"two": 2, "three": 3, "four": 4}


@pytest.fixture(scope="module")
def cases(packages):
    return Emoji(size=32, root=str(packages), split="all").compositions(12, seed=0)


def shown(case):
    """The masks of what is on it, and the mean colour of each."""
    image = case["image"]
    pieces = split_pieces((image < 200).any(0))
    return pieces, [image[:, piece].float().mean(1) for piece in pieces]


def test_kinds_come_in_turn(cases):
    assert [case["kind"] for case in cases] == list(KINDS) * 12
    assert {case["image"].shape for case in cases} == {(3, 32, 32)}


def test_there_are_as_many_things_as_it_says(cases):
    for case in cases:
        assert len(shown(case)[0]) == case["count"], case["caption"]
        number = re.match("two|three|four", case["caption"])
        assert case["count"] == (NUMBERS[number[0]] if number else 2 if case["kind"] == "position" else 1)


def test_they_have_the_colour_that_it_says(cases):
    import colorsys

    for case in cases:
        assert (case["colour"] is not None) == ("colour" in case["kind"])
        if case["colour"] is None:
            continue
        assert case["hues"][case["colour"]] == pytest.approx(HUES[case["colour"]] / 256 * 360)
        assert re.match(rf"(an?|two|three|four) {case['colour']} {case['things'][0]}", case["caption"])
        for colour in shown(case)[1]:
            apart = abs(360 * colorsys.rgb_to_hsv(*(colour / 255).tolist())[0] - case["hues"][case["colour"]])
            assert min(apart, 360 - apart) < 6, case["caption"]


def test_the_first_of_two_lies_where_it_says(cases, colour_of):
    placed = [case for case in cases if case["kind"] == "position"]
    for case in placed:
        where = next(where for where in DIRECTIONS if f" {where} " in case["caption"])
        assert DIRECTIONS[where] == case["direction"]
        first, second = case["things"]
        assert re.match(rf"an? {first} {where} an? {second}, ", case["caption"])
        masks, colours = shown(case)
        near = [np.abs(colour.numpy() - colour_of[first]).max() for colour in colours]
        if abs(near[0] - near[1]) < 60:
            continue  # too alike to be told apart
        centres = [mask.nonzero().double().mean(0).flip(0) for mask in masks]
        apart = centres[int(np.argmin(near))] - centres[int(np.argmax(near))]
        assert torch.sign((apart / 4).round()).tolist() == list(case["direction"]), case["caption"]
    assert {case["direction"] for case in placed} == set(DIRECTIONS.values())


def test_the_same_seed_gives_the_same_canvases_and_fewer_are_the_first_of_more(packages, cases):
    data = Emoji(size=32, root=str(packages), split="all")
    for one, two in zip(data.compositions(2, seed=0), cases, strict=False):
        assert one["caption"] == two["caption"] and torch.equal(one["image"], two["image"])
    assert [case["caption"] for case in data.compositions(2, seed=1)] != [case["caption"] for case in cases[:8]]


def test_only_drawings_of_the_split_are_on_them(packages):
    data = Emoji(size=32, root=str(packages), limit=40)
    allowed = {record["thing"] for record in data.evaluation("seen")}
    assert {thing for case in data.compositions(4, seed=3) for thing in case["things"]} <= allowed


def test_too_few_drawings_are_told_with_the_cure(packages):
    with pytest.raises(UserError, match="no canvas of position can be made"):
        Emoji(size=32, root=str(packages), styles=["noto"], limit=1).compositions(1, seed=0)


def test_things_stand_apart_where_each_is_one_piece_of_about_one_size():
    image = torch.full((3, 16, 16), 255, dtype=torch.uint8)
    assert not stands_apart(image, 1)
    image[:, 2:8, 2:14] = 0
    assert stands_apart(image, 1) and not stands_apart(image, 2)
    image[:, 10, 2] = 0
    assert stands_apart(image, 1), "a dot beside it is no second thing"
    assert not stands_apart(image, 2)
    image[:, 10:14, 2:14] = 0
    assert stands_apart(image, 2) and not stands_apart(image, 1)
    image[:, 8:10, 4] = 0
    assert not stands_apart(image, 2), "they touch"
    assert not stands_apart(torch.full((3, 16, 16), 240, dtype=torch.uint8), 1), "nothing is seen"


def test_every_record_of_an_evaluation_says_what_it_shows(packages):
    data = Emoji(size=32, root=str(packages))
    for split in ("seen", "held-out"):
        for record in data.evaluation(split):
            assert record["caption"] == f"{record['thing']}, {record['group']} style"
