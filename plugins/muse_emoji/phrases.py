"""Free words: phrasings of our own that no caption template makes, each with the emoji that count as right."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_name("phrases.txt")


def read_phrases(path: Path = FILE) -> list[tuple[str, list[str]]]:
    """Each phrase and its emoji's labels, from lines such as "a hot drink in a cup: hot beverage, teapot".

    They are for measuring alone: no data set that is trained on may have one as a caption.
    """
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        phrase, _, labels = line.partition(": ")
        found.append((phrase, labels.split(", ")))
    return found
