"""A style beside the seven is drawn where it is asked for by name, and changes no record of theirs; few-shot splits."""

import hashlib
import json
import shutil

import pytest
import torch
from muse_emoji import render
from muse_emoji.dataset import Emoji
from muse_emoji.pairs import find_pairs
from muse_emoji.sources import FURTHER, SOURCES, STYLES, sources_of


def records(data):
    return [data[index] for index in range(len(data))]


def alike(one, other):
    return one["caption"] == other["caption"] and torch.equal(one["image"], other["image"])


def test_the_seven_do_without_the_further_ones(packages, tmp_path, monkeypatch):
    seven = tmp_path / "seven"
    shutil.copytree(packages, seven)
    for source in FURTHER:
        shutil.rmtree(seven / source.package)
    assert sources_of(STYLES) == sources_of(("noto",)) == SOURCES
    monkeypatch.setenv("MUSE_CACHE", str(tmp_path / "cache"))
    data = Emoji(size=16, root=str(seven))
    assert {record["group"] for record in data.evaluation("seen")} == set(STYLES)
    names = [(pair.style, name) for pair, name in find_pairs(seven)] + [source.version for source in SOURCES]
    key = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    assert [file.name for file in (tmp_path / "cache" / "emoji").iterdir()] == [f"rendered-16-{key}.npy"]


def test_a_further_style_alone_draws_none_of_the_seven(packages, monkeypatch):
    styles = set()
    draw = render._render
    monkeypatch.setattr(
        render, "_render", lambda m, sets, style, *more: styles.add(style) or draw(m, sets, style, *more)
    )
    data = Emoji(size=20, root=str(packages), styles=["streamline"])
    assert styles == set() and len(data) == 8 * sum(not pair.held_out for pair, _ in find_pairs(packages, FURTHER))
    assert all(record["caption"].endswith(", streamline style") for record in data.evaluation("seen"))
    assert styles == {"streamline"}


def test_beside_the_seven_it_changes_none_of_their_records(packages):
    settings = {"size": 16, "root": str(packages), "variants": 1}
    both, alone = Emoji(**settings, styles=["noto", "streamline"]), Emoji(**settings, styles=["noto"])
    assert len(both) > len(alone)
    assert all(alike(*two) for two in zip(records(alone), records(both), strict=False))


def test_a_few_are_trained_on_and_all_others_held_out(packages):
    settings = {"size": 16, "root": str(packages), "styles": ["streamline"], "limit": 7}
    train, held, every = (Emoji(**settings, split=split) for split in ("train", "held-out", "all"))
    assert (len(train), len(held), len(every)) == (8 * 7, 8 * (60 - 7), 8 * 60)
    seen, unseen = (
        {record["caption"] for record in Emoji(**settings).evaluation(split)} for split in ("seen", "held-out")
    )
    assert len(seen) == 7 and len(unseen) == 53 and not seen & unseen
    assert {record["caption"] for record in records(train)[:7]} == seen
    hashed = {f"{pair.label}, streamline style" for pair, _ in find_pairs(packages, FURTHER) if pair.held_out}
    assert hashed <= unseen
    other = {record["caption"] for record in Emoji(**settings, seed=1).evaluation("seen")}
    assert len(other) == 7 and other != seen


def test_a_limit_above_what_there_is_changes_nothing(packages):
    settings = {"size": 16, "root": str(packages), "styles": ["blob"], "variants": 2}
    assert all(
        alike(*two) for two in zip(records(Emoji(**settings)), records(Emoji(**settings, limit=60)), strict=True)
    )
    with pytest.raises(ValueError, match="limit is 0; give 1 drawing or more, or null for all"):
        Emoji(**settings, limit=0)
