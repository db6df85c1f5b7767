"""Captions of single emoji, of several, and of two beside each other."""

from __future__ import annotations

from numpy.random import Generator

from muse_emoji.canvas import BACKGROUNDS, HUES
from muse_emoji.pairs import Pair

COLOURS = {*BACKGROUNDS, *HUES, "white"}
NUMBERS = {2: "two", 3: "three", 4: "four"}
POSITIONS = ("to the left of", "to the right of", "above", "below")
UNCOUNTED = ("people-body", "symbols")
"""Groups whose labels have no plural that rules can make: "man kneeling", "input latin letters"."""


def with_article(noun: str) -> str:
    """The noun with its indefinite article, by its sound: an apple, an hourglass, a unicorn."""
    vowel = noun.startswith(("hour", *"aeiou")) and not noun.startswith(("unic", "euro", "ewe", "one", "uku"))
    return f"{'an' if vowel else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of a label's last word, by the rules that need no dictionary."""
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def countable(pair: Pair) -> bool:
    """Whether "two" and "a" can stand before the label: not "grapes", nor "keycap: 1"."""
    return pair.group not in UNCOUNTED and pair.label.replace(" ", "").isalpha() and not pair.label.endswith("s")


def coloured(name: str) -> bool:
    """Whether a label or tag names a colour itself."""
    return any(word in COLOURS for word in name.split())


def plain_caption(pair: Pair) -> str:
    """The caption that evaluation uses: label and style."""
    return f"{pair.label}, {pair.style} style"


def random_noun(pair: Pair, random: Generator, colour: str | None = None, tag_share: float = 0.15) -> str:
    """Mostly the label, at times one of the tags; behind a colour, where there is one, and then no second colour."""
    tags = _tags(pair, colour)
    name = tags[random.integers(len(tags))] if tags and random.random() < tag_share else pair.label
    return name if colour is None else f"{colour} {name}"


def _tags(pair: Pair, colour: str | None) -> list[str]:
    return [tag for tag in pair.tags if colour is None or not coloured(tag)]


def caption_of(pair: Pair, random: Generator, colour: str | None = None, background: str | None = None) -> str:
    """One of the ways to name a single emoji; `colour` of the thing, `background` colour where there is one."""
    name = random_noun(pair, random, colour)
    if random.random() < 0.6 and not name.endswith("s"):
        name = with_article(name)
    tags = _tags(pair, colour)
    if tags and random.random() < 0.15:
        name = f"{name}, {', '.join(random.permutation(tags)[:2])}"
    if background is not None:
        name = f"{name} on {with_article(background)} background"
    way = random.random()
    if way < 0.1:
        return name
    return f"{with_article(pair.style)} emoji of {name}" if way < 0.2 else f"{name}, {pair.style} style"


def wording_of(pair: Pair, random: Generator) -> str:
    """One of the ways to name an emoji however it is drawn: in its own colour or another, alone or several."""
    colour = None
    if random.random() < 0.25 and not coloured(pair.label):
        colour = str(random.choice(list(HUES)))
    if random.random() < 0.25 and countable(pair):
        return caption_of_several(pair, int(random.integers(2, 5)), colour, bool(random.random() < 0.8))
    return caption_of(pair, random, colour, str(random.choice(list(BACKGROUNDS))) if random.random() < 0.2 else None)


def caption_of_several(pair: Pair, count: int, colour: str | None, style: bool, behind: str = "") -> str:
    """Several of the same: "three red apples, noto style"; `behind` names the background."""
    name = plural(pair.label if colour is None else f"{colour} {pair.label}")
    return f"{NUMBERS[count]} {name}{behind}" + (f", {pair.style} style" if style else "")


def caption_of_two(nouns: tuple[str, str], where: str, style: str | None, behind: str = "") -> str:
    """Two things and how they lie: "a cat to the left of a car, noto style"; `behind` names the background."""
    return f"{with_article(nouns[0])} {where} {with_article(nouns[1])}{behind}" + (
        "" if style is None else f", {style} style"
    )
