"""What a caption is, wherever it was found: text, the first of a list, the name of a class; never a number."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.files import lines_of, path_of
from muse_training.data.listing import Unused, printable

Choice = Literal["first", "random"]
"""Which caption of a list is taken: the first one, or one by lot, always the same one for the same picture."""

KEYS = ("caption", "captions", "text", "prompt", "description", "raw", "tags", "label")
"""What a caption is called in a table, in the order in which they are asked."""

SCORE = "score"
"""What a picture's score is called in a table."""

NAMED = 5
"""Pictures that go by their file's name, and things not used, that are named; the others are counted."""


@dataclass
class Account:
    """Where the captions of a data set came from, and what lay there and was not used.

    sources: how many captions came from each, by what it is called. by_name: pictures captioned by their file's name.
    """

    sources: Counter[str] = field(default_factory=Counter)
    by_name: list[str] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)

    def lines(self, listed: str = "") -> list[str]:
        """What is told of it: where the captions came from, the first of what was not used, and how much more it is.

        listed: where all of it is listed.
        """
        told = [self.captions()]
        if self.unused:
            more = [f"and {len(self.unused) - NAMED} more"] * (len(self.unused) > NAMED)
            shown = "\n  ".join([*map(str, self.unused[:NAMED]), *more])
            told.append(f"{len(self.unused)} files, folders or lines were not used{listed}:\n  {shown}")
        return told

    def captions(self) -> str:
        """One line: `captions: 198 from .txt, 2 from file names: a.png, b.png`."""
        told = [f"{count} from {source}" for source, count in self.sources.items()]
        if self.by_name:
            shown = ", ".join(map(printable, self.by_name[:NAMED])) + ", …" * (len(self.by_name) > NAMED)
            told.append(f"{len(self.by_name)} from file names: {shown}")
        return "captions: " + (", ".join(told) or "none")

    def mixed(self) -> bool:
        """Whether some pictures have captions and others only their file's name."""
        return bool(self.by_name and self.sources)


def caption_of(value: Any, name: str, choice: Choice = "first", classes: Sequence[str] | None = None) -> str:
    """The caption that `value` is; ValueError, which says what it is instead, where it is none.

    A list gives one of those in it, a table what is found under KEYS, and a number the class that it is the place of.
    name: what a lot is drawn by, so that it falls alike at each reading.
    """
    found, problems = [], []
    for each in _alternatives(value):
        try:
            found.append(_text(each, classes))
        except ValueError as error:
            problems.append(error)
    if not found:
        raise problems[0] if problems else ValueError("is an empty list, and holds no caption")
    if choice == "first":
        return found[0]
    lot = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return found[lot % len(found)]


def _alternatives(value: Any) -> list[Any]:
    """All that a caption may be taken from, lists and tables opened."""
    if isinstance(value, list | tuple):
        return [each for held in value for each in _alternatives(held)]
    if isinstance(value, dict):
        for key in keys_in(value):
            if value[key] not in (None, "", []):
                return _alternatives(value[key])
        if not keys_in(value):
            held = ", ".join(map(str, value)) or "nothing"
            return [_NoCaption(f"holds no caption: a table of {held:.80}, and none of {', '.join(KEYS)}")]
        return [_NoCaption(f"holds no caption: its {keys_in(value)[0]} is empty")]
    return [value]


class _NoCaption(str):
    """A table without caption, in the words to say so."""


def _text(value: Any, classes: Sequence[str] | None) -> str:
    if isinstance(value, _NoCaption):
        raise ValueError(str(value))
    if value is None:
        raise ValueError("is null, and holds no caption")
    if classes is not None and isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if classes is not None and isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < len(classes):
            raise ValueError(f"is class {value}, and there are names of {len(classes)}, from 0 on")
        value = classes[value]
    if isinstance(value, bytes):
        value = decode(value)
    if not isinstance(value, str):
        kind = "a number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
        raise ValueError(f"is {kind}, {f'{value!r}':.40}, and no text")
    if not (text := value.strip()):
        raise ValueError("is empty, and holds no caption")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is not UTF-8 text; save it as UTF-8") from error
    return text


def keys_in(entry: Iterable[Any]) -> list[Any]:
    """Those keys of a table under which captions are looked for, the first to be asked first; capitals don't matter."""
    found = {str(key).strip().lower(): key for key in reversed(list(entry))}
    return [found[key] for key in KEYS if key in found]


def decode(content: bytes) -> str:
    """Text of UTF-8, with or without its mark; ValueError where it is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def caption_in(content: bytes, kind: str, name: str, choice: Choice, classes: Sequence[str] | None = None) -> str:
    """The caption in a file of its own, by how its name ends; ValueError where there is none.

    `json` holds it as KEYS have it, `cls` a class's number or name, all else the text itself.
    """
    text = decode(content)
    if kind == "json":
        return caption_of(json.loads(text), name, choice, classes)
    if kind == "cls" and text.strip().isdecimal() and classes is None:
        raise ValueError(f"is the number {text.strip():.20} of a class; give the classes' names as dataset.classes")
    return caption_of(text, name, choice, classes)


def score_of(value: Any) -> float:
    """A score as a table or a file has it, NaN where it has none; ValueError where that is no number."""
    try:
        score = math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        score = math.inf
    if math.isinf(score):
        raise ValueError(f"its score is {f'{value!r}':.40}, and no number")
    return score


def score_in(content: bytes, kind: str) -> float:
    """The score in a caption's own file, by how its name ends; NaN where it is no table of JSON or has none."""
    held = json.loads(decode(content)) if kind == "json" else None
    return score_of(held.get(SCORE)) if isinstance(held, dict) else math.nan


def class_names(classes: str | list[str] | None) -> list[str] | None:
    """The names of classes by number: a list, or a file with one in each line; UserError where it can't be read."""
    if not isinstance(classes, str):
        return classes
    path = path_of(classes)
    try:
        return [line.strip() for line in lines_of(decode(path.read_bytes())) if line.strip()]
    except OSError as error:
        raise UserError(
            f"{path} can't be read as names of classes: {error.strerror or words_of(error)}; give a file with one in "
            "each line, or a list, as dataset.classes"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} {error}") from error


def told(read: Callable[[], str], what: str) -> str:
    """What `read` gives; ValueError, which begins with `what`, where it gives none."""
    try:
        return read()
    except (ValueError, RecursionError) as error:
        why = f"is no JSON ({error})" if isinstance(error, json.JSONDecodeError) else error or "can't be read"
        raise ValueError(f"{what} {why}") from error
