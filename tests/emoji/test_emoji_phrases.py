"""Free words are never trained on: no caption of the data set, by whichever template, is one of them."""

import re

import pytest
from muse_emoji import captions
from muse_emoji.canvas import HUES
from muse_emoji.dataset import Emoji
from muse_emoji.phrases import read_phrases

PHRASES = read_phrases()


def test_there_are_a_hundred_different_ones_each_with_its_emoji():
    assert len(PHRASES) == len({phrase for phrase, _ in PHRASES}) == 100
    assert all(labels and all(labels) for _, labels in PHRASES)


def test_none_is_made_as_captions_are():
    """A caption names a style, or is no more than a number, colour or article, a name, and a place or background."""
    for phrase, labels in PHRASES:
        assert not re.search(r"\b(style|emoji|background)\b|to the (left|right) of|\babove\b|\bbelow\b", phrase)
        bare = re.sub(r"^(an?|the|two|three|four) ", "", phrase)
        for hue in HUES:
            bare = bare.removeprefix(f"{hue} ")
        assert bare not in labels and bare not in map(captions.plural, labels), phrase


def test_a_phrase_comes_with_a_drawing_of_what_it_means(packages, tmp_path, monkeypatch):
    lines = "round and sweet: baban, kimun\nnobody drew it: unheard of"
    (tmp_path / "phrases.txt").write_text(lines, encoding="utf-8")
    monkeypatch.setattr("muse_emoji.dataset.read_phrases", lambda: read_phrases(tmp_path / "phrases.txt"))
    data = Emoji(size=32, root=str(packages), split="all")
    (found,) = data.phrases(seed=0)
    assert found["caption"] == "round and sweet" and found["things"] == ["baban", "kimun"]
    shown = [r["image"] for r in data.evaluation("seen") if r["thing"] in found["things"]]
    assert any((found["image"] == image).all() for image in shown)
    assert (data.phrases(seed=0)[0]["image"] == found["image"]).all()


@pytest.mark.slow  # reads the whole data set, and fetches it where it is not there
def test_no_caption_of_the_data_set_is_one_of_them(monkeypatch):
    monkeypatch.delenv("MUSE_CACHE")
    data = Emoji(size=64, split="all")
    for name in ("flatten", "scatter", "recolour"):  # captions alone are asked for
        monkeypatch.setattr(f"muse_emoji.canvas.{name}", lambda picture, *_: picture)
    monkeypatch.setattr("muse_emoji.canvas.tinted", lambda picture: True)
    monkeypatch.setattr("muse_emoji.dataset.from_image", lambda picture: picture)
    written = {data[index]["caption"] for index in range(len(data))}
    pairs = [pair for pair, _ in zip(*data._loaded, strict=True)]
    names = {name for pair in pairs for name in (pair.label, *pair.tags)}
    written |= names | {captions.with_article(name) for name in names}
    assert len(written) > 50_000
    assert not written & {phrase for phrase, _ in PHRASES}
    known = {pair.label for pair in pairs}
    assert {label for _, labels in PHRASES for label in labels} <= known
