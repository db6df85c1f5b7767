"""YAML text to a tree of nodes that know where they stand, and back to text."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from muse_studio.errors import Problem, RecipeError

Scalar: TypeAlias = str | int | float | bool | None

LARGEST = 100_000
"""Nodes in one text. YAML's aliases can write billions in a few lines; no recipe has a thousand."""

LARGEST_DRAWN = 10_000
"""Values and keys in a picture's text, which anybody may have written: reading so many takes less than a second."""
LONGEST = 1000
"""Letters of a whole number, and its decimal digits. Python refuses to write numbers of more than 4300."""

_TAG = "tag:yaml.org,2002:"


MARK = "an object of Python: "
"""How a recipe that is written down names what was given as an object, and not by name."""


@dataclass(frozen=True)
class Given:
    """An object of Python where a recipe has a name or a table."""

    thing: Any

    def __str__(self) -> str:
        """By its class, as a written recipe has it."""
        made = type(self.thing)
        return f"{MARK}{made.__module__}.{made.__qualname__}"


@dataclass(frozen=True)
class Node:
    """A value and where it stands: "file:line", or the override that brought it.

    A table's entries stand where their keys do. given: the whole override, where this is all of its value.
    """

    value: Scalar | list[Node] | dict[str, Node] | Given
    place: str
    given: str | None = field(default=None, compare=False)

    def plain(self) -> Any:
        """The value as plain lists, dicts and scalars; an object is named by its class, see `MARK`."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return str(self.value) if isinstance(self.value, Given) else self.value


def from_plain(data: Any, place: str, *, objects: bool = False) -> Node:
    """Lists, dicts and scalars as nodes, all standing at `place`.

    objects: anything else becomes `Given`; it is a RecipeError where this is false.
    """
    if isinstance(data, Mapping):
        if strangers := [key for key in data if not isinstance(key, str)]:
            raise RecipeError([Problem(place, "", f"a table has the key {strangers[0]!r}; keys are text")])
        return Node({key: from_plain(each, place, objects=objects) for key, each in data.items()}, place)
    if isinstance(data, list | tuple):
        return Node([from_plain(each, place, objects=objects) for each in data], place)
    if data is not None and type(data) not in (str, int, float, bool):
        if objects:
            return Node(Given(data), place)
        kind = type(data).__name__
        message = f"{data!r} is of type {kind}; a recipe holds text, numbers, true, false, null, lists and tables"
        raise RecipeError([Problem(place, "", message)])
    if type(data) is int and abs(data) >= 10**LONGEST:
        raise RecipeError([Problem(place, "", _too_long(int(data.bit_length() * math.log10(2)) + 1))])
    return Node(data, place)


def _too_long(digits: int) -> str:
    return f"a number of {digits:,} digits, and {LONGEST:,} are the most; what is text must stand in quotes"


class _Resolver(yaml.resolver.BaseResolver):
    """YAML 1.2's core schema: 1e-4 is a number; no, yes, on, off, 12:30 and 2024-01-01 are text."""


for _name, _pattern, _first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
]:
    _Resolver.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))


class _TooManyError(Exception):
    """A text has more values than it may; at which line, from 0."""


class _Loader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, _Resolver):
    """PyYAML's safe loader up to the node graph. It has no constructor, so no tag can make an object."""

    def __init__(self, text: str, most: int) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        _Resolver.__init__(self)
        self.composed, self.most = 0, most

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML's; a text of too many values is refused at the one too many, not once all are made."""
        self.composed += 1
        if self.composed > self.most:
            raise _TooManyError(self.peek_event().start_mark.line)
        return super().compose_node(parent, index)


class _Dumper(yaml.emitter.Emitter, yaml.serializer.Serializer, yaml.representer.SafeRepresenter, _Resolver):
    """PyYAML's safe dumper, quoting what the resolver above would read as anything but text."""

    def __init__(self, stream: Any, **_: Any) -> None:
        yaml.emitter.Emitter.__init__(self, stream, allow_unicode=True, width=sys.maxsize)
        yaml.serializer.Serializer.__init__(self)
        yaml.representer.SafeRepresenter.__init__(self, default_flow_style=False, sort_keys=False)
        _Resolver.__init__(self)

    def ignore_aliases(self, data: Any) -> bool:
        """Write each value out: an alias would puzzle the reader."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    # Unprintable characters, among them line ends of other worlds, survive only as escapes in double quotes.
    return dumper.represent_scalar(f"{_TAG}str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)


def to_yaml(data: Node | Any) -> str:
    """A tree or plain data as YAML text, which `parse` reads as the same."""
    return yaml.dump(data.plain() if isinstance(data, Node) else data, Dumper=_Dumper)


def quoted(text: str) -> str:
    """Text in double quotes, as YAML reads it whatever it holds."""
    import json  # here, as shlex below: what goes well needs neither

    return json.dumps(text, ensure_ascii=not text.isprintable()).replace("\x7f", "\\x7f")


def typed(override: str) -> str:
    """An override as a shell is to have it, its value in quotes, so that it is text whatever it holds."""
    import shlex

    path, _, value = override.partition("=")
    return shlex.quote(f"{path}={quoted(value)}")


def parse(text: str, source: str, *, override: bool = False, most: int = LARGEST) -> Node | None:
    """YAML text as a tree, None where it holds nothing.

    source: what the text is called in places, which add the line; that of an override stands for itself, and must not
    lose its end to a comment. RecipeError tells what is not YAML, a key that is written twice, tabs, tags, and more
    values than `LARGEST`, or than `most` that are written out, keys among them.
    """
    reader = _Reader(source, lines=not override)
    try:
        root = _Loader(text, most).get_single_node()
        if override and text[root.end_mark.index if root else 0 :].strip().startswith("#"):
            raise reader.refusal(0, "from '#' on it would be a YAML comment; put the value in double quotes")
        if override and root is not None and "\n" not in text and (lost := _lost(root, text)):
            raise reader.refusal(0, f"YAML would take {lost}, so it would not be in the text")
        return None if root is None else reader.node(root)
    except yaml.MarkedYAMLError as error:
        raise reader.refusal(*_mended(error)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        raise reader.refusal(line, f"a character that YAML does not allow: U+{error.character:04X}") from error
    except _TooManyError as error:
        raise reader.refusal(error.args[0], f"more than {most} values and keys, so it is no recipe") from error
    except RecursionError as error:
        raise reader.refusal(0, "it is nested too deeply") from error


def _lost(root: yaml.Node, text: str) -> str:
    """The mark at the beginning of one line that would be no part of its value, and for what; else nothing."""
    begin = text.lstrip()[:1]
    if begin == "&":
        return "'&' for the name of an anchor"
    if begin in ("|", ">") and isinstance(root, yaml.ScalarNode):
        return f"{begin!r} for the beginning of several lines"
    if begin == "-" and isinstance(root, yaml.SequenceNode):
        return "'-' for an item of a list, which is written [a, b] here"
    if text.strip().startswith(("---", "...")) and text.strip() != "---":
        return f"{text.strip()[:3]!r} for the beginning or end of a document"
    return ""


_LINE = re.compile(r"\s*(?:- )*([\w.-]+): +(\S.*?)\s*")


def _mended(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    mark = error.problem_mark or error.context_mark
    if error.context_mark and re.search("end of stream|<stream end>", error.problem or ""):
        mark = error.context_mark  # where quotes or brackets begin that don't end
    assert mark is not None  # the scanner and the parser always say where
    assert mark.buffer is not None  # of a text, not of a stream
    if error.problem and r"'\t'" in error.problem:
        before = mark.buffer[mark.pointer - mark.column : mark.pointer]
        where = "a tab stands here" if before.strip() else "indented by a tab"
        return mark.line, f"{where}; YAML knows spaces only: put spaces in its place"
    begin, context, start = mark.line, error.context, error.context_mark
    if context and context.startswith("while parsing a flow") and start is not None and start.line < begin:
        begin = start.line
        context += f" that begins in line {begin + 1}"
    line = (mark.buffer.rstrip("\0").splitlines() or [""])[: begin + 1][-1]
    found = _LINE.fullmatch(line)
    example = f", as in {found[1]}: {quoted(found[2])}" if found else ""
    message = " ".join(filter(None, [context, error.problem]))
    cure = "text that holds any of : # [ ] { } & * ! or quotes must stand in quotes"
    return mark.line, f"not YAML: {message}; {cure}{example}"


_KINDS = {
    yaml.MappingNode: {"map"},
    yaml.SequenceNode: {"seq"},
    yaml.ScalarNode: {"str", "int", "float", "bool", "null", "merge"},
}


class _Reader:
    """PyYAML's nodes to ours."""

    def __init__(self, source: str, lines: bool) -> None:
        self.source, self.lines = source, lines
        self.count = 0
        self.open: list[yaml.Node] = []

    def place(self, line: int) -> str:
        """Where a line (from 0) is."""
        return f"{self.source}:{line + 1}" if self.lines else self.source

    def refusal(self, line: int, message: str, path: str = "") -> RecipeError:
        """One problem, at a line from 0."""
        return RecipeError([Problem(self.place(line), path, message)])

    def node(self, raw: yaml.Node, line: int | None = None) -> Node:
        """The tree under `raw`, which stands at `line` where that is given."""
        start = raw.start_mark.line
        self.count += 1
        if self.count > LARGEST:
            raise self.refusal(start, f"more than {LARGEST} values; aliases (*name) repeat whole tables")
        if any(raw is each for each in self.open):
            raise self.refusal(start, "an alias (*name) stands inside of what it repeats")
        if not raw.tag.startswith(_TAG) or raw.tag.removeprefix(_TAG) not in _KINDS[type(raw)]:
            tag = raw.tag.replace(_TAG, "!!")
            told = "is not for recipes, which hold data alone; remove it, or put text in quotes"
            raise self.refusal(start, f"the tag {tag} {told}")
        mark = raw.start_mark
        if mark.buffer is not None and re.match(r"!\s", mark.buffer[mark.pointer : mark.pointer + 2]):
            raise self.refusal(start, "'!' is a tag without a name to YAML; put text that begins so in quotes")
        self.open.append(raw)
        if isinstance(raw, yaml.MappingNode):
            value: Any = self.table(raw)
        elif isinstance(raw, yaml.SequenceNode):
            value = [self.node(each) for each in raw.value]
        else:
            assert isinstance(raw, yaml.ScalarNode)
            value = self.scalar(raw)
        self.open.pop()
        return Node(value, self.place(start if line is None else line))

    def table(self, raw: yaml.MappingNode) -> dict[str, Node]:
        """A mapping's entries; a key is its text, whatever it looks like."""
        found: dict[str, Node] = {}
        first: dict[str, int] = {}
        for key, value in raw.value:
            line = key.start_mark.line
            if not isinstance(key, yaml.ScalarNode):
                raise self.refusal(line, "a key must be text, not a list or a table")
            if key.tag == f"{_TAG}merge":
                raise self.refusal(line, "'<<' is not for recipes; write 'extends: NAME' to take over another recipe")
            name = _joined(key.value)
            if name in found:
                raise self.refusal(line, f"{name!r} is written twice in one table, first in line {first[name] + 1}")
            found[name], first[name] = self.node(value, line), line
        return found

    def scalar(self, raw: yaml.ScalarNode) -> Scalar:
        """Text, a number, true, false or null, by the tag."""
        kind, text = raw.tag.removeprefix(_TAG), raw.value
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int" and len(text) > LONGEST:
                raise self.refusal(raw.start_mark.line, _too_long(len(text)))
            if kind == "int":
                return int(text, 0 if text[:2] in ("0o", "0x") else 10)
            if kind == "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            return _joined(text)
        except (ValueError, KeyError) as error:
            raise self.refusal(raw.start_mark.line, f"{text[:40]!r} can't be read as {kind}") from error


def _joined(text: str) -> str:
    """JSON writes an emoji as two escapes, the halves of one character; ValueError where a half stands alone."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16")
