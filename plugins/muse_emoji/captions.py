"""Says in words what a picture shows."""

from __future__ import annotations

from numpy.random import Generator

from muse_emoji.index import Pair

NUMBERS = {2: "two", 3: "three", 4: "four"}
BESIDE = ("to the left of", "to the right of", "above", "below")


def a(noun: str) -> str:
    """The noun with its indefinite article, by its first letter."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of a label's last word, by the rules that need no dictionary."""
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def canonical(pair: Pair) -> str:
    """The caption that evaluation asks with: label and style."""
    return f"{pair.label}, {pair.style} style"


def noun(pair: Pair, random: Generator, tag_share: float = 0.15) -> str:
    """Mostly the label, at times one of the tags."""
    if pair.tags and random.random() < tag_share:
        return pair.tags[random.integers(len(pair.tags))]
    return pair.label


def caption(pair: Pair, random: Generator, colour: str | None = None, background: str | None = None) -> str:
    """One of the ways to name a single emoji; `colour` of the thing, `background` colour where there is one."""
    name = noun(pair, random)
    if colour is not None:
        name = f"{colour} {name}"
    if random.random() < 0.6:
        name = a(name)
    if pair.tags and random.random() < 0.15:
        name = f"{name}, {', '.join(random.permutation(pair.tags)[:2])}"
    if background is not None:
        name = f"{name} on {a(background)} background"
    way = random.random()
    if way < 0.1:
        return name
    return f"{a(pair.style)} emoji of {name}" if way < 0.2 else f"{name}, {pair.style} style"


def counted(pair: Pair, count: int, colour: str | None, style: bool, behind: str = "") -> str:
    """Several of the same: "three red apples, noto style"; `behind` is said of the background."""
    name = plural(pair.label if colour is None else f"{colour} {pair.label}")
    return f"{NUMBERS[count]} {name}{behind}" + (f", {pair.style} style" if style else "")


def placed(nouns: tuple[str, str], where: str, style: str | None, behind: str = "") -> str:
    """Two things and how they lie: "a cat to the left of a car, noto style"; `behind` is said of the background."""
    return f"{a(nouns[0])} {where} {a(nouns[1])}{behind}" + ("" if style is None else f", {style} style")
