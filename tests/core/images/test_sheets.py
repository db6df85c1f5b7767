import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from muse_studio.images.naming import LONGEST, slug, spell
from muse_studio.images.sheets import Section, Tile, contact_sheet, wrap


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red apple, noto style", "a-red-apple-noto-style"),
        ("", "picture"),
        ("?!/..", "picture"),
        ("../../etc/passwd", "etc-passwd"),
        ("🍎", "red-apple"),
        ("👍🏽 ❤️", "thumbs-up-sign-heavy-black-heart"),
        ("一只红苹果", "一只红苹果"),
        ("हिन्दी", "हिन्दी"),
        ("Ünïcode\n\x00 tab", "ünïcode-tab"),
    ],
)
def test_a_slug_reads_like_its_prompt(prompt, name):
    assert slug(prompt) == name


@given(st.text(max_size=300))
def test_a_slug_is_always_a_safe_name(prompt):
    name = slug(prompt)
    assert 0 < len(name.encode()) <= LONGEST
    assert not set(name) & set("/\\.: \0\n")


def test_symbols_are_spelled_and_letters_stay():
    assert spell("a 🍎  beside\n猫") == "a red apple beside 猫"


@given(st.text(max_size=100), st.integers(30, 200), st.integers(1, 3))
def test_captions_fit_their_place(caption, width, lines):
    font = ImageFont.load_default(size=13)
    wrapped = wrap(caption, font, width, lines)
    assert 1 <= len(wrapped) <= lines
    assert all(font.getlength(line) <= width for line in wrapped)


def test_a_caption_that_is_cut_ends_in_dots():
    font = ImageFont.load_default(size=13)
    assert wrap("one two three", font, 1000, 1) == ["one two three"]
    assert wrap("one two three", font, int(font.getlength("one two")), 2) == ["one two", "three"]
    assert wrap("one two three four", font, int(font.getlength("one two")), 1)[0].endswith("...")


def sheet_of(colours, **settings):
    tiles = [Tile([Image.new("RGB", (8, 8), colour)], str(colour)) for colour in colours]
    return np.asarray(contact_sheet([Section("", tiles, [])], side=32, **settings))


def test_every_picture_is_on_the_sheet_in_order():
    colours = [(250, 10 * index, 0) for index in range(7)]
    sheet = sheet_of(colours, columns=3)
    centres = [tuple(map(float, np.argwhere((sheet == colour).all(-1)).mean(0))) for colour in colours]
    assert all((sheet == colour).all(-1).sum() == 32 * 32 for colour in colours)
    assert centres == sorted(centres)
    assert len({row for row, _ in centres}) == 3


def test_a_pair_stands_side_by_side_under_its_labels():
    real, drawn = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (64, 32), (0, 0, 255))
    sheet = np.asarray(contact_sheet([Section("seen", [Tile([real, drawn], "a")], ["real", "generated"])], side=64))
    red, blue = (np.argwhere((sheet == colour).all(-1)) for colour in ((255, 0, 0), (0, 0, 255)))
    assert (len(red), len(blue)) == (64 * 64, 64 * 32)
    assert red[:, 0].min() == blue[:, 0].min()
    assert red[:, 1].max() < blue[:, 1].min()
    assert (sheet[: red[:, 0].min()] < 128).any()  # title and labels are drawn above


def test_captions_in_any_script_do_not_crash_and_leave_ink():
    for caption in ("猫", "🍎 and 👩‍🚀", "\ud800", "عربى", "x" * 500, ""):
        assert (
            np.asarray(contact_sheet([Section("", [Tile([Image.new("RGB", (8, 8), "white")], caption)], [])])) < 128
        ).any()
