"""The text encoder `class`: a prompt is the number or the name of a class."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cached_property
from typing import Any, Self

import torch

from muse_studio.contracts import TextEmbedding
from muse_studio.errors import UserError, near, words_of
from muse_studio.images.naming import check_prompts
from muse_studio.runtime.files import lines_of, path_of
from muse_studio.runtime.weights import local


class Class:
    """For transformers that are told of a class: T is 1, and its states are 1 at the class and 0 elsewhere.

    A prompt is a number from 0 on, "207", or, where there are names, a name of them, "golden retriever"; upper case
    and lower case are one, and so are all lengths of space. An empty prompt is no class. Nothing is read before the
    first name is asked for.

    classes: how many there are, the width.
    names: an address of a file that has them in order: a text of a line each, or JSON, a list or a table by number.
        Commas separate the names of one class, as in ImageNet's "tench, Tinca tinca": each of them names it, and so
        does the whole. A table by number may have lists, whose last entry then counts (Keras's index of ImageNet).
    """

    def __init__(self, classes: int = 1000, names: str | None = None) -> None:
        if classes < 1:
            raise ValueError(f"classes is {classes}; give 1 or more")
        self.width, self.names = classes, names
        self.device = torch.device("cpu")

    @property
    def identity(self) -> str:
        """What its answers depend on."""
        return f"Class {self.width} {self.names}"

    def to(self, device: torch.device | str) -> Self:
        """Answer on that device from now on."""
        self.device = torch.device(device)
        return self

    def __call__(self, prompts: list[str]) -> TextEmbedding:
        """B prompts to states float32[B, 1, classes] and mask bool[B, 1].

        UserError where one is no class, or names several. TypeError for a single string, ValueError for no prompt.
        """
        check_prompts(prompts)
        states = torch.zeros(len(prompts), 1, self.width)
        mask = torch.zeros(len(prompts), 1, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            if prompt.strip():
                states[row, 0, self.number(prompt)] = 1
                mask[row] = True
        return TextEmbedding(states.to(self.device), mask.to(self.device))

    def number(self, prompt: str) -> int:
        """The class that a prompt names; UserError, with the name that is near, where it names none or several."""
        said = _plain(prompt)
        if said.isascii() and said.removeprefix("-").isdecimal():
            if 0 <= int(said) < self.width:
                return int(said)
            raise UserError(f"class {said} is none of the {self.width}; give 0 to {self.width - 1}, or a name")
        if self.names is None:
            raise UserError(
                f"{prompt!r} is no class: the text encoder 'class' was given no names; give a number, 0 to "
                f"{self.width - 1}, or a file of names as text_encoder.names"
            )
        found = self.known.get(said, [])
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{prompt!r} names the classes {', '.join(map(str, found))}; give one of these numbers")
        raise UserError(
            f"{prompt!r} is no class of {self.names};{near(said, self.known)} give one of its names, or a number, 0 to "
            f"{self.width - 1}"
        )

    @cached_property
    def known(self) -> dict[str, list[int]]:
        """Classes by name, as `_plain` writes it; a name that is all of one class's entry is not others' too.

        UserError where the file can't be had, is not of such a form, or is of another number of classes.
        """
        whole, among = defaultdict(list), defaultdict(list)
        for number, entry in enumerate(self._entries()):
            whole[_plain(entry)].append(number)
            for name in {_plain(each) for each in entry.split(",")}:
                among[name].append(number)
        return {**among, **whole}

    def _entries(self) -> list[str]:
        """The file's entries in the order of the classes."""
        names = str(self.names)
        path = local(names) if "://" in names else path_of(names)
        if not path.is_file():
            raise UserError(
                f"there is no file of names at {path}; give another as text_encoder.names, or null for none"
            )
        text = path.read_bytes().decode("utf-8", "replace")
        try:
            said = json.loads(text) if text.lstrip()[:1] in ("[", "{") else lines_of(text.strip())
            if isinstance(said, dict):
                said = [said[str(number)] for number in range(len(said))]
            entries = [_entry(each) for each in said]
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"{path} holds no names of classes ({words_of(error)}); give a line each, or a JSON list or table"
            ) from error
        if len(entries) != self.width:
            raise UserError(f"{path} names {len(entries)} classes, and there are {self.width}; give the file of these")
        return entries


def _entry(said: Any) -> str:
    """One class's names; TypeError where they are no text."""
    last = said[-1] if isinstance(said, list) and said else said
    if not isinstance(last, str):
        raise TypeError(f"{said!r:.40} is no name")
    return last


def _plain(name: str) -> str:
    """As names are compared: in lower case, one space where there is any, underscores being spaces."""
    return " ".join(name.casefold().replace("_", " ").split())
