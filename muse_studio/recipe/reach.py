"""What a recipe reaches for: what it would write, read and fetch, as far as its settings say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from muse_studio.contracts import Observer
from muse_studio.recipe.plan import Call
from muse_studio.recipe.strangers import is_box, names_a_place
from muse_studio.registry.parts import settings

Verb: TypeAlias = Literal["writes", "reads", "fetches"]

WRITTEN = frozenset(["cache", "log", "logs", "out", "output", "outputs", "save", "to", "upload"])
"""Words of a setting's name by which it says where something is written."""

_HUB = frozenset(["model", "network"])  # settings that name a folder here, or else a model of the hub


@dataclass(frozen=True)
class Reach:
    """One file, folder or address. path: the setting that names it. what: as it stands there."""

    verb: Verb
    path: str
    what: str

    def __str__(self) -> str:
        from_hub = " (or the hub's model of that name)" if self.path.rpartition(".")[2] in _HUB else ""
        return f"{self.verb:7}  {self.path} = {self.what}{from_hub if self.verb == 'reads' else ''}"


def reach(plan: Any) -> Iterator[Reach]:
    """What the calls of a plan reach for, by what was given and by their defaults."""
    if isinstance(plan, list | tuple):
        for each in plan:
            yield from reach(each)
    elif isinstance(plan, dict):
        for each in plan.values():
            yield from reach(each)
    elif isinstance(plan, Call):
        takes = plan.part.settings if plan.part is not None else settings(plan.target, plan.what)
        for key, setting in takes.items():
            value = plan.arguments.get(key, None if setting.required else setting.default)
            path = f"{plan.path}.{key}" if plan.path else key
            for inner, text in _texts(value, path):
                if (names_a_place(key) and not is_box(text)) or "://" in text:
                    yield Reach(_verb(key, text, plan.contract), inner, text)
            yield from reach(value)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a setting that is no part, with its path."""
    if isinstance(value, str) and value:
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, f"{path}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, f"{path}[{index}]")


def _verb(key: str, text: str, contract: type | None) -> Verb:
    words = set(re.split(r"[^a-z0-9]+", key.lower()))
    if words & WRITTEN or (contract is Observer and "file" in words):
        return "writes"
    return "fetches" if "://" in text and not text.startswith(("package://", "file://", "local://")) else "reads"
