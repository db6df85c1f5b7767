"""A filter of prompts by a list of words: a first hurdle, which a determined user steps over."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from muse_studio.errors import UserError, words_of
from muse_studio.hookspecs import hookimpl
from muse_studio.runtime.files import path_of

LIST = Path(__file__).with_name("words.txt")
"""The list that is used where none is given."""


@dataclass
class WordFilter:
    """Refuse prompts that have a word or phrase of a list, before anything is drawn.

    Whole words count, whatever their case, width and accents' spelling, and any space or hyphen between the words of a
    phrase. Another spelling, language or paraphrase passes: the filter reads words, and does not understand them.

    words: a text file, a word or phrase a line, `#` before a comment; by default the list of muse_observers/words.txt.
    also: further words. allow: words of the list that may be drawn.
    """

    words: str | None = None
    also: list[str] | None = None
    allow: list[str] | None = None

    @hookimpl
    def muse_started(self) -> None:
        """Read the list now: a mistake in it is told before anything is drawn."""
        self._pattern  # noqa: B018, it is kept

    @hookimpl
    def muse_prompt(self, prompt: str) -> str | None:
        """Why a prompt must not be drawn: the word in it that is on the list."""
        found = self._pattern.search(plain(prompt))
        return None if found is None else f"{found[0]!r} is on its list of words"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        path = LIST if self.words is None else path_of(self.words)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{path} can't be read as a list of words: {words_of(error)}; give another file as words"
            ) from error
        listed = [line.partition("#")[0] for line in lines] + (self.also or [])
        words = {plain(each) for each in listed} - {plain(each) for each in self.allow or []} - {""}
        if not words:
            raise UserError(f"{path} holds no word, so the filter would refuse nothing; give another file as words")
        phrases = (r"[\s\-_]+".join(map(re.escape, re.split(r"[\s\-_]+", word))) for word in sorted(words))
        return re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)")


def plain(text: str) -> str:
    """Text as it is compared: one form for each letter, lower case, without invisible characters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(each for each in folded if unicodedata.category(each) != "Cf").strip()
