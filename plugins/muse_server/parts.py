"""Parts and their settings as JSON, read off their signatures and docstrings: the page makes its forms of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from muse_studio.errors import PluginError
from muse_studio.recipe.strangers import names_a_place
from muse_studio.registry.kinds import kind_of
from muse_studio.registry.parts import SCALARS, UNIONS, Part, Setting, is_table, spelled

log = logging.getLogger(__name__)

OF_STAGE = ("sampler", "schedule", "guidance")
"""What of a stage a client may set."""
KINDS = (*OF_STAGE, "editor")
"""The kinds of parts that a client may name: they are made in no time, and hold no weights."""


def told(offered: Iterable[Part]) -> list[dict[str, Any]]:
    """Each part, third parties' too: `{name, full_name, plugin, about, settings: [...]}`.

    One that can't be imported is left out, with a line in the log.
    """
    found = []
    for part in offered:
        try:
            found.append(_part(part))
        except PluginError as error:
            log.warning("%s is not offered: %s", part.full_name, error)
    return found


def kinds_in(annotation: Any) -> Iterator[str]:
    """The kinds of parts that a setting of this type may be given."""
    if (kind := kind_of(annotation)) is not None:
        yield kind.name
    for each in get_args(annotation) if get_origin(annotation) is not Literal else ():
        yield from kinds_in(each)


def values_of(table: Any) -> Any:
    """A part's table of a recipe without what names a place here; of a bare name the table that it stands for."""
    if isinstance(table, str):
        return {"use": table}
    if not isinstance(table, Mapping):
        return None
    return {key: each for key, each in table.items() if not names_a_place(key) and not _holds_a_place(each)}


def _holds_a_place(value: Any) -> bool:
    """Whether a value is a part that names a place, or an address itself."""
    if isinstance(value, Mapping):
        return any(names_a_place(key) or _holds_a_place(each) for key, each in value.items())
    return isinstance(value, str) and ("://" in value or "/" in value)


def _part(part: Part) -> dict[str, Any]:
    about = part.about
    said = settings_said(about, part.settings)
    settings = [_setting(each) | {"about": said.get(each.name, "")} for each in part.settings.values()]
    return {
        "name": part.name,
        "full_name": part.full_name,
        "plugin": part.plugin,
        "about": about,
        "settings": settings,
    }


def _setting(setting: Setting) -> dict[str, Any]:
    members = [setting.annotation]
    if get_origin(setting.annotation) in UNIONS:
        members = [each for each in get_args(setting.annotation) if each is not NoneType]
    choices = [each for member in members if get_origin(member) is Literal for each in get_args(member)]
    return {
        "name": setting.name,
        "type": _type(members),
        "nullable": NoneType in get_args(setting.annotation),
        "written": spelled(setting.annotation),
        "default": None if setting.required else _plain(setting.default),
        "required": setting.required,
        "choices": choices or None,
        "kind": next(kinds_in(setting.annotation), None),
    }


def _type(members: list[Any]) -> str:
    """What the form has for it; of a number or a list of numbers, the number."""
    first = members[0]
    if get_origin(first) is Literal:
        return "choice"
    if kind_of(first) is not None:
        return "part"
    if first in SCALARS:
        return str(first.__name__)
    return "table" if is_table(first) or (get_origin(first) or first) is dict else "list"


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, SCALARS) else str(value)


def settings_said(about: str, names: Collection[str]) -> dict[str, str]:
    """What a docstring says of each setting: where a sentence begins with "steps: ..." or "top_k, top_p: ..."."""
    if not names:
        return {}
    name = "|".join(map(re.escape, names))
    begin = re.compile(rf"(?:^|(?<=[.;] ))((?:{name})(?:, (?:{name}))*): ")
    said: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", about):
        _, *found = begin.split(" ".join(paragraph.split()))
        for several, text in zip(found[::2], found[1::2], strict=True):
            said |= dict.fromkeys(several.split(", "), text.strip())
    return said
