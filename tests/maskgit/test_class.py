"""The text encoder `class`: numbers, names and their forms, and what is told where there is no such class."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from muse_maskgit.classes import Class

from muse_studio.errors import UserError

NAMES = ["tench, Tinca tinca", "crane", "cardigan, Welsh corgi", "cardigan", "crane"]


LINES = "\n".join(NAMES)


def encoder(tmp_path, text=LINES):
    (tmp_path / "names").write_text(text, encoding="utf-8")
    return Class(5, str(tmp_path / "names"))


@given(st.lists(st.integers(0, 6) | st.none(), min_size=1, max_size=5))
def test_a_number_is_one_at_its_class_and_no_number_is_none(numbers):
    text = Class(7)(["  " if number is None else f" {number} " for number in numbers])
    assert text.mask.tolist() == [[number is not None] for number in numbers] and text.pooled is None
    assert text.states.tolist() == [[[float(number == each) for each in range(7)]] for number in numbers]


@pytest.mark.parametrize(
    ("prompt", "number"),
    [("tench", 0), ("TINCA  tinca", 0), ("Tench, Tinca tinca", 0), ("welsh_corgi", 2), ("cardigan", 3), ("4", 4)],
)
def test_a_name_is_found_in_any_of_its_forms(tmp_path, prompt, number):
    assert encoder(tmp_path).number(prompt) == number


@pytest.mark.parametrize(
    "text",
    [
        LINES + "\n\n",
        json.dumps(NAMES),
        json.dumps(dict(enumerate(NAMES))),
        json.dumps({str(number): [f"n0{number}", name] for number, name in enumerate(NAMES)}),
    ],
    ids=["lines", "list", "table", "keras"],
)
def test_names_are_read_from_each_form_of_file(tmp_path, text):
    read = encoder(tmp_path, text)
    assert read.known["tench"] == [0] and read.known["crane"] == [1, 4] and read.known["cardigan"] == [3]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("tensh", r"'tensh' is no class of .*names; did you mean 'tench'\? give one of its names, or a number, 0 to 4"),
        ("a red apple", "'a red apple' is no class of .*names; give one of its names"),
        ("crane", "'crane' names the classes 1, 4; give one of these numbers"),
        ("5", "class 5 is none of the 5; give 0 to 4, or a name"),
        ("-1", "class -1 is none of the 5"),
    ],
)
def test_what_is_no_class_is_told_with_what_is_near(tmp_path, prompt, message):
    with pytest.raises(UserError, match=message):
        encoder(tmp_path)(["tench", prompt])


def test_only_a_line_feed_ends_a_name(tmp_path):
    (tmp_path / "names").write_text("tench\u2028a fish\ncock\nhen\nbulbul\ncrane\n", encoding="utf-8")
    assert len(Class(5, str(tmp_path / "names"))(["cock"]).states) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tench", "names 1 classes, and there are 5; give the file of these"),
        ('{"1": "tench"}', "holds no names of classes .KeyError: '0'.; give a line each, or a JSON list or table"),
        ("[1, 2, 3, 4, 5]", "holds no names of classes .1 is no name"),
        ('["tench",', "holds no names of classes"),
        ("", "names 0 classes"),
    ],
)
def test_a_file_of_no_such_names_is_told(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        encoder(tmp_path, text)(["tench"])


def test_what_it_is_given_must_fit(tmp_path):
    with pytest.raises(UserError, match="'tench' is no class: the text encoder 'class' was given no names; give a num"):
        Class(5)(["tench"])
    with pytest.raises(UserError, match=r"there is no file of names at .*missing"):
        Class(5, str(tmp_path / "missing"))(["tench"])
    with pytest.raises(ValueError, match="classes is 0; give 1 or more"):
        Class(0)
    with pytest.raises(TypeError, match="prompts is one string"):
        Class(5)("3")
    with pytest.raises(ValueError, match="the list of prompts is empty"):
        Class(5)([])


def test_it_answers_on_its_device_and_tells_what_it_depends_on():
    assert Class(5).to("meta")(["3"]).states.device == torch.device("meta")
    assert Class(5).identity != Class(6).identity != Class(6, "names").identity
