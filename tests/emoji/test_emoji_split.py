"""What is drawn joins what is said; what is held out is in no record of training, in no style of its family."""

import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from muse_emoji import sources
from muse_emoji.dataset import Emoji
from muse_emoji.pairs import Pair, find_pairs, plain, slug
from muse_emoji.sources import SOURCES, STYLES

from muse_studio.errors import UserError

HELD_OUT = [0x1F402, 0x1F446, 0x1F45B, 0x1F46B, 0x1F48A, 0x1F490, 0x1F4B3, 0x1F4B4, 0x1F4C8, 0x1F4FA]
"""Of noto's 256 codepoints from 0x1F400 on."""


def real() -> Path | None:
    """The real packages, where MUSE_EMOJI_ROOT names them or the cache has them."""
    given = os.environ.get("MUSE_EMOJI_ROOT")
    folder = Path(given or Path.home() / ".cache" / "muse_studio" / "emoji")
    try:
        return sources.find_packages(str(folder))
    except UserError:
        return None


def labels_in(caption):
    return set(re.findall(r"\b(?:ba|de|ki|lo|mu|na)(?:ba|de|ki|lo|mu|na|pe|ri|to|vu)n(?=s?\b)", caption))


def test_every_set_is_joined_by_codepoint_or_by_name(packages):
    found = find_pairs(packages)
    assert len(found) == 7 * 60
    assert [pair.style for pair, _ in found[::60]] == list(STYLES)
    pair, name = found[0]
    assert pair == Pair("noto", "noto", "1F400", "baban", (), "things")
    assert (name, found[5 * 60][1]) == ("baban", "1f400.webp")


def test_flags_skin_tones_components_and_the_undrawn_are_left_out(packages):
    labels = {pair.label for pair, _ in find_pairs(packages)}
    assert len(labels) == 60
    assert not labels & {"flag: germany", "waving hand: light skin tone", "light skin tone", "undrawn"}


def test_a_family_is_held_out_as_one(packages):
    held = defaultdict(set)
    for pair, _ in find_pairs(packages):
        held[pair.hexcode, pair.family].add(pair.held_out)
    assert all(len(answers) == 1 for answers in held.values())
    assert sum(answers == {True} for answers in held.values()) >= 5
    fluent = {
        (pair.hexcode, pair.style) for pair, _ in find_pairs(packages) if pair.family == "fluent" and pair.held_out
    }
    assert {style for _, style in fluent} == {"fluent flat", "fluent", "fluent 3d"}
    assert len(fluent) % 3 == 0


def test_who_is_held_out_never_changes():
    def held(hexcode, family):
        return Pair("any", family, hexcode, "any", (), "").held_out

    assert [code for code in range(0x1F400, 0x1F500) if held(f"{code:X}", "noto")] == HELD_OUT
    share = np.mean([held(f"{code:X}", "noto") for code in range(20_000)])
    assert share == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize("style", STYLES)
def test_nothing_held_out_is_in_a_training_record(packages, style):
    settings = {"size": 16, "root": str(packages), "styles": [style], "scenes": 0.6, "variants": 9}
    train, held = Emoji(**settings), Emoji(**settings, split="held-out")
    forbidden = {pair.label for pair, _ in find_pairs(packages) if pair.style == style and pair.held_out}
    assert len(train) == 9 * (60 - len(forbidden)) and len(held) == 9 * len(forbidden)
    seen = [labels_in(train[index]["caption"]) for index in range(len(train))]
    assert all(seen), "a caption without a label"
    assert max(map(len, seen)) == 2, "no scene of two things"
    assert not forbidden & set().union(*seen)
    assert set().union(*(labels_in(held[index]["caption"]) for index in range(len(held)))) == forbidden


def test_evaluation_has_each_drawing_once(packages):
    data = Emoji(size=16, root=str(packages))
    seen, held = data.evaluation("seen"), data.evaluation("held-out")
    assert len(seen) + len(held) == 7 * 60 and len(held) == sum(pair.held_out for pair, _ in find_pairs(packages))
    assert {record["group"] for record in seen} == set(STYLES)
    assert all(record["caption"].endswith(f", {record['group']} style") for record in seen + held)
    assert not {record["caption"] for record in seen} & {record["caption"] for record in held}


def test_the_same_index_gives_the_same_record_and_seeds_differ(packages):
    settings = {"size": 16, "root": str(packages), "variants": 3}
    one, other, seeded = Emoji(**settings), Emoji(**settings), Emoji(**settings, seed=1)
    order = range(len(one) - 1, 0, -37)
    assert all((one[index]["image"] == other[index]["image"]).all() for index in order)
    assert [one[index]["caption"] for index in order] == [other[index]["caption"] for index in order]
    assert [one[index]["caption"] for index in order] != [seeded[index]["caption"] for index in order]
    with pytest.raises(IndexError, match=f"record {len(one)} of {len(one)}"):
        one[len(one)]
    with pytest.raises(IndexError):
        one[-1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 7}, "size is 7; give the pixels of a side, from 8 to 1024"),
        ({"size": 1_000_000}, "size is 1000000; give the pixels of a side, from 8 to 1024"),
        ({"variants": 0}, "variants is 0; give 1 record a drawing or more"),
        ({"styles": ["noto", "impressionist"]}, "no style impressionist; there are noto, blob, twemoji, fluent flat"),
        ({"scenes": 0.6, "recoloured": 0.5}, "shares from 0 to 1, the last two at most 1 together"),
        ({"background": 1.1}, "shares from 0 to 1"),
    ],
)
def test_settings_that_can_not_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Emoji(**wrong)


def test_names_as_the_sets_have_them():
    assert plain("2764-fe0f-200d-1f525") == "2764-200D-1F525"
    assert slug("man\N{RIGHT SINGLE QUOTATION MARK}s Shoe: (New!)") == "mans-shoe-new"


@pytest.mark.skipif(real() is None, reason="the real packages are not here; MUSE_EMOJI_ROOT names them")
def test_the_real_packages():
    found = [pair for pair, _ in find_pairs(real())]
    assert len(found) > 10_000
    assert {
        source.style: sum(pair.style == source.style for pair in found) > 1000 for source in SOURCES
    } == dict.fromkeys(STYLES, True)
    assert np.mean([pair.held_out for pair in found]) == pytest.approx(0.05, abs=0.01)
    assert not [pair for pair in found if "skin tone" in pair.label or pair.label.startswith("flag:")]
    assert len({(pair.style, pair.hexcode) for pair in found}) == len(found)


def test_wordings_name_the_drawings_of_training_and_those_alone(packages):
    data = Emoji(size=16, root=str(packages))
    said = data.wordings(5, seed=0)
    train = {(record["thing"], record["group"]) for record in data.evaluation("seen")}
    assert len(said) == 5 * len(train)
    assert {(each["thing"], each["group"]) for each in said} == train
    assert [each["caption"] for each in said[::5]] == [each["thing"] for each in said[::5]]
    assert all(labels_in(each["caption"]) == {each["thing"]} for each in said)
    assert {each["caption"] for each in said} - {each["thing"] for each in said}
    assert said == data.wordings(5, seed=0) != data.wordings(5, seed=1)
    assert any(re.match(r"(two|three|four) ", each["caption"]) for each in said)
    assert any("background" in each["caption"] for each in said)
