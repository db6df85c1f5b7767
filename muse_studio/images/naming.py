"""Prompts in any script, and file names that say what was asked for."""

from __future__ import annotations

import unicodedata

from muse_studio.runtime.files import name_problem

LONGEST = 80
"""Bytes of a slug: file systems allow 255 in a name, and a Chinese character takes three."""


def spell(text: str) -> str:
    """`text` with each symbol, such as an emoji, replaced by its Unicode name: "a 🍎" gives "a red apple".

    Letters of every script stay. What only shapes its neighbour (joiners, variation selectors, skin tones) is dropped.
    """
    spelled = []
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        name = unicodedata.name(character, "")
        if category == "So":
            spelled.append(f" {name.lower()} ")
        elif category[0] == "C" or name.startswith(("VARIATION SELECTOR", "EMOJI MODIFIER")):
            spelled.append(" " if character.isspace() else "")
        else:
            spelled.append(character)
    return " ".join("".join(spelled).split())


def is_unicode(text: str) -> bool:
    """Whether a text is valid Unicode, as a half of a surrogate pair is not."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def check_prompt(prompt: str) -> None:
    """TypeError where a prompt is no text, ValueError where it is no valid Unicode."""
    if not isinstance(prompt, str):
        raise TypeError(f"prompt is {prompt!r:.60}; give a text")
    if not is_unicode(prompt):
        raise ValueError(f"prompt {prompt!r} is not valid Unicode; type it again in a UTF-8 terminal or file")


def check_prompts(prompts: list[str]) -> None:
    """What every text encoder refuses: TypeError for a single string, ValueError for no prompt at all."""
    if isinstance(prompts, str):
        raise TypeError(f"prompts is one string; give a list of them: [{prompts!r}]")
    if not prompts:
        raise ValueError("the list of prompts is empty; give at least one, '' for none")


def slug(prompt: str) -> str:
    """A file name's stem for a prompt: its words in lower case, joined by hyphens; "picture" where there is no word.

    It holds letters and digits of any script alone, so it can't leave its folder, and is at most `LONGEST` bytes.
    """
    kept = (letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in spell(prompt).casefold())
    stem = "-".join("".join(kept).split()).encode()[:LONGEST].decode(errors="ignore")
    stem = stem.strip("-") or "picture"
    return f"{stem}-picture" if name_problem(stem) else stem  # "con" is a device of Windows
