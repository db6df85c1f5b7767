"""Holds nodes against the signatures of what they name: a plan of calls, and every problem on the way."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from muse_studio.errors import Problem, SettingError, UserError, listed, near
from muse_studio.recipe.tree import MARK, Given, Node, typed
from muse_studio.registry.kinds import Kind, kind_of
from muse_studio.registry.parts import SCALARS, UNIONS, Part, Setting, is_table, settings, spelled
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.files import LONGEST, name_problem

_LEAST_QUOTED = 5
"""Letters of a text from which on a message that has it in it is taken to speak of it."""


class _Broken:
    """The type of BROKEN."""

    def __repr__(self) -> str:
        return "BROKEN"


_GIVE = "put what a recipe can say in its place, or give an object again: muse_studio.run(recipe, {path: object})"

BROKEN = _Broken()
"""Stands for a value with a problem that has been told already."""


@dataclass
class Call:
    """One part or dataclass to call, with values, lists, dicts and further calls as arguments.

    what: "sampler 'confidence' of plugin muse_sampling". broken: it can't be called, for a problem that has been told.
    contract: what is made fulfils it, where that is a part. part: that part.
    """

    what: str
    target: Callable[..., Any]
    node: Node
    path: str
    arguments: dict[str, Any] = field(default_factory=dict)
    broken: bool = False
    contract: type | None = None
    part: Part | None = None

    def refusal(self, error: Exception, message: str) -> Problem:
        """What the call itself refused, placed at the setting that it is about; elsewhere at the whole table."""
        table = self.node.value if isinstance(self.node.value, dict) else {}
        name = error.setting if isinstance(error, SettingError) else _setting_in(message, table)
        if name in table and name != "use":
            return Problem(table[name].place, _join(self.path, name), message, by_part=True)
        return Problem(self.node.place, self.path, f"{self.what}: {message}", by_part=True)


def _setting_in(message: str, table: Mapping[str, Node]) -> str:
    """The setting that the message of an exception which names none is about, "" where that is not known.

    It is the message's first word where that is a setting of the table, else the only one whose text, such as a path,
    is quoted in it. So a plain ValueError or OSError is placed too, of a third party or of a library beneath a part.
    """
    first = next(iter(message.split()), "").rstrip(":,")
    texts = {key: each.value for key, each in table.items() if isinstance(each.value, str)}
    quoted = [key for key, text in texts.items() if len(text) >= _LEAST_QUOTED and text in message]
    about = [first] if first in table else quoted
    return about[0] if len(about) == 1 else ""


class Planner:
    """Plans a recipe. `problems`: all that was found; `used`: the parts that it names."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem] = []
        self.used: list[Part] = []

    def part(self, kind: Kind, node: Node, path: str) -> Any:
        """A part of that kind: a table with `use`, its bare name, or an object that fulfils its contract."""
        table = {"use": node} if isinstance(node.value, str) else node.value
        if not isinstance(table, dict):
            return self._refuse(node, path, f"expected {kind.with_article}, by name or as a table, got {_got(node)}")
        available = listed(part.name for part in self.registry.parts(kind.name))
        if "use" not in table:
            alone = "" if path else ". A recipe without it is for others to extend"
            message = f"this table must say by 'use' which {kind} it is; available: {available}{alone}"
            return self._refuse(node, path, message)
        named = table["use"]
        if not isinstance(named.value, str):
            message = f"expected the name of {kind.with_article}, got {_got(named)}; available: {available}"
            return self._refuse(named, _join(path, "use"), message)
        if named.value.startswith(MARK):
            return self._refuse(named, path, f"{named.value} stood here; {_GIVE}")
        try:
            part = self.registry.find(kind.name, named.value)
        except UserError as error:
            return self._refuse(named, path if table is not node.value else _join(path, "use"), str(error))
        self.used.append(part)
        given = {key: each for key, each in table.items() if key != "use"}
        what = f"{part} of plugin {part.plugin}"
        call = Call(what, part.load(), node, path, contract=kind.contract, part=part)
        return self._call(call, part.settings, given, str(part))

    def value(self, annotation: Any, node: Node, path: str) -> Any:
        """What an annotation makes of a node, BROKEN where it can't."""
        if isinstance(node.value, Given):
            return self._given(annotation, node.value, node, path)
        if isinstance(node.value, str) and node.value.startswith(MARK):
            return self._refuse(node, path, f"{node.value} stood here; {_GIVE}")
        origin, inner = get_origin(annotation), get_args(annotation)
        if origin in UNIONS:
            return self._union(annotation, inner, node, path)
        if not _fits(annotation, node):
            return self._refuse_type(annotation, node, path)
        value: Any = node.value  # of what the annotation asks for, as _fits has told
        if (kind := kind_of(annotation)) is not None:
            return self.part(kind, node, path)
        if is_table(annotation):
            name = annotation.__name__
            return self._call(Call(name, annotation, node, path), settings(annotation, name), value, name)
        if origin is list:
            return [self.value(inner[0], each, f"{path}[{index}]") for index, each in enumerate(value)]
        if origin is dict:
            return {key: self._named(inner[1], key, each, path) for key, each in value.items()}
        if annotation is float and isinstance(value, int) and abs(value) > sys.float_info.max:
            return self._refuse(node, path, f"expected float, got a number of {len(str(value))} digits")
        return float(value) if annotation is float else node.plain()

    def _named(self, annotation: Any, name: str, node: Node, path: str) -> Any:
        """What an annotation makes of an entry of a table; parts' names, such as a stage's, become those of files."""
        members = get_args(annotation) if get_origin(annotation) in UNIONS else (annotation,)
        names_part = any(is_table(member) or kind_of(member) is not None for member in members)
        if names_part and (problem := name_problem(name)):
            shown = repr(name) if len(name) <= LONGEST else f"{name[:20]!r}…"
            return self._refuse(node, path, f"the name {shown} {problem}, and files are called by it; give another")
        return self.value(annotation, node, _join(path, name))

    def settings(self, takes: Mapping[str, Setting], given: Mapping[str, Node], path: str, name: str) -> dict[str, Any]:
        """What is made of each setting that is given and that `name` takes."""
        made = {}
        for key, node in given.items():
            if key in takes:
                made[key] = self.value(takes[key].annotation, node, _join(path, key))
            else:
                message = f"{name} has no {key!r};{near(key, takes)} it takes: {_takes(takes)}"
                self._refuse(node, _join(path, key), message)
        return made

    def _call(self, call: Call, takes: Mapping[str, Setting], given: Mapping[str, Node], name: str) -> Call:
        before = len(self.problems)
        call.arguments |= self.settings(takes, given, call.path, name)
        if missing := [repr(key) for key, setting in takes.items() if setting.required and key not in given]:
            self._refuse(call.node, call.path, f"{name} needs {', '.join(missing)}; it takes: {_takes(takes)}")
        call.broken = len(self.problems) > before
        return call

    def _given(self, annotation: Any, given: Given, node: Node, path: str) -> Any:
        """The object itself, where it is what one of the annotation's types asks for."""
        members = get_args(annotation) if get_origin(annotation) in UNIONS else (annotation,)
        contracts = [kind.contract for member in members if (kind := kind_of(member)) is not None]
        missing = [lacking(given.thing, contract) for contract in contracts]
        tables = [member for member in members if is_table(member)]
        fits = any(isinstance(given.thing, member) for member in tables) or [] in missing
        if fits and not isinstance(given.thing, type):
            return given
        if isinstance(given.thing, type):
            message = f"expected {spelled(annotation)}, got a class; give an object of it, {given.thing.__name__}(...)"
            return self._refuse(node, path, message)
        if missing:
            message = f"{_got(node)} is no {spelled(annotation)}: it has no {' and no '.join(missing[0])}"
            return self._refuse(node, path, message)
        return self._refuse_type(annotation, node, path)

    def _union(self, annotation: Any, members: tuple[Any, ...], node: Node, path: str) -> Any:
        """The first member that fits without a problem, the value's own type before others; else the first's plan."""
        fitting = [member for member in members if _fits(member, node)]
        fitting.sort(key=lambda member: member is not type(node.value))
        if not fitting:
            return self._refuse_type(annotation, node, path)
        attempts = []
        for member in fitting:
            attempt = Planner(self.registry)
            attempts.append((attempt.value(member, node, path), attempt))
            if not attempt.problems:
                break
        planned, attempt = attempts[0] if attempts[-1][1].problems else attempts[-1]
        self.problems += attempt.problems
        self.used += attempt.used
        return planned

    def _refuse_type(self, annotation: Any, node: Node, path: str) -> _Broken:
        message = f"expected {spelled(annotation)}, got {_got(node)}{_cure(annotation, node)}"
        return self._refuse(node, path, message)

    def _refuse(self, node: Node, path: str, message: str) -> _Broken:
        self.problems.append(Problem(node.place, path, message))
        return BROKEN


def lacking(thing: Any, contract: type) -> list[str]:
    """Methods of a contract that an object has not."""
    promised = [name for name, each in vars(contract).items() if inspect.isfunction(each) and name != "__init__"]
    return [name for name in promised if not callable(getattr(thing, name, None))]


def _fits(annotation: Any, node: Node) -> bool:
    """Whether a node is of the sort that an annotation asks for, its content aside."""
    value, origin = node.value, get_origin(annotation)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in get_args(annotation))
    if kind_of(annotation) is not None:
        return isinstance(value, str | dict)
    if is_table(annotation):
        return isinstance(value, dict)
    if annotation is float:
        return type(value) in (int, float)
    return type(value) is (origin or annotation)


def _got(node: Node) -> str:
    if isinstance(node.value, Given):
        return str(node.value)
    if isinstance(node.value, dict | list):
        return "a table" if isinstance(node.value, dict) else "a list"
    if node.value is None:
        return "nothing (null)"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return f"{'text' if isinstance(node.value, str) else 'the number'} {node.value!r}"


def _cure(annotation: Any, node: Node) -> str:
    """How to write it, where that is known."""
    if get_origin(annotation) in UNIONS:
        return next(filter(None, (_cure(each, node) for each in get_args(annotation))), "")
    if annotation is str and (text := (node.given or "").partition("=")[2].strip()) and text not in ('""', "''"):
        return f"; as text, type {typed(node.given or '')}"
    if annotation is str and node.value is None:
        return '; write "" for empty text'
    if annotation is str and type(node.value) in SCALARS:
        return f'; in quotes it is text: "{node.plain()}"'
    if annotation is str:
        return "; text that holds any of : [ ] { } or begins with - or ? must stand in quotes"
    if annotation is int and isinstance(node.value, float) and node.value.is_integer():
        return f"; write {int(node.value)}"
    if get_origin(annotation) is Literal and isinstance(node.value, str):
        hint = near(node.value, [each for each in get_args(annotation) if isinstance(each, str)])
        return f";{hint}" if hint else ""
    if get_origin(annotation) is list and type(node.value) in (*SCALARS, NoneType):
        return "; write it in brackets, as in [1, 2]"
    return ""


def _takes(takes: Mapping[str, Setting]) -> str:
    return ", ".join(map(str, takes.values())) or "no settings"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
