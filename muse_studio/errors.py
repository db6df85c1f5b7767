"""The errors that a user can mend. The command line prints their message alone and exits with 2."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass


class UserError(Exception):
    """Something the user gave does not work; the message names the place and the cure."""


class Refused(UserError):
    """A filter refuses a prompt or a picture; the message names the filter and its reason."""


class Followed(UserError):
    """Another process of the same run failed, and tells why; this one ends in silence."""


class NotFetched(UserError):
    """Something is not on this machine, and nothing may be fetched now: what needs it can't be checked."""


class Terminated(KeyboardInterrupt):
    """The run was asked to stop by SIGTERM, and did so in good order."""


class SettingError(ValueError):
    """A part refuses one of its settings: raised by its constructor, and reported at that setting's line of the recipe.

    setting: its name in the part's own table. message: what it is, and what would do.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(setting, message)  # both, so that it can be pickled
        self.setting, self.message = setting, message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Problem:
    """One mistake in a recipe.

    place: "file:line", or the override on the command line that it came by.
    path: the setting, dotted; empty for the recipe as a whole.
    message: what was expected, what was got, what is near.
    by_part: whether a part refused its settings when it was made; else they name what is not there, or are of another
        type.
    """

    place: str
    path: str
    message: str
    by_part: bool = False

    def __str__(self) -> str:
        return "  ".join([self.place, f"{self.path} — {self.message}" if self.path else self.message])


class RecipeError(UserError):
    """Every problem of a recipe at once, one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(Exception):
    """A plugin does not keep its side of the bargain; the message says which one and how."""


def near(word: str, words: Iterable[str]) -> str:
    """Words such as " did you mean 'steps'?" where one of the words is close to `word`, else nothing."""
    import difflib  # here, as traceback below: what goes well needs neither

    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f" did you mean {close[0]!r}?" if close else ""


def listed(words: Iterable[str]) -> str:
    """The words in order, or "none"."""
    return ", ".join(sorted(words)) or "none"


def origin(error: BaseException) -> str | None:
    """The file:line where an exception was raised, passing over the import machinery's own frames; None if unknown."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    import traceback

    machinery = ("<frozen", importlib.__file__)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(machinery)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def words_of(error: BaseException) -> str:
    """What an exception says, in its first line that says anything; its type where it says nothing, as a lost one may.

    The key alone, which is all that a KeyError says, comes with its type too.
    """
    said = next((line for line in map(str.strip, str(error).splitlines()) if line), "")
    name = type(error).__name__
    return f"{name}: {said}" if said and isinstance(error, KeyError) else said or name


def in_one_line(error: BaseException) -> str:
    """An exception's type, and what it says."""
    message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def error_message(error: BaseException) -> str:
    """An exception in one line: its type, what it says, and where it was raised."""
    place = origin(error)
    return in_one_line(error) + (f" ({place})" if place else "")
