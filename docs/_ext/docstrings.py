"""Docstrings as this project writes them, as Markdown for pages and as reStructuredText for autodoc.

Paragraphs are prose, indented blocks are code, and lines that begin `name: ` say what a setting or an attribute is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from inspect import cleandoc
from textwrap import dedent, indent
from typing import NamedTuple

FIELD = re.compile(r"([a-z]\w*(?:, [a-z]\w*)*): ")
CODE, FIELDS, ITEMS, PROSE = "code", "fields", "items", "prose"


class Block(NamedTuple):
    """One piece of a docstring: its sort, and its lines, or the names and texts of its fields."""

    sort: str
    lines: list[str]
    fields: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default is never changed


def blocks(docstring: str) -> list[Block]:
    """What a docstring is made of, in order."""
    found: list[Block] = []
    for paragraph in re.split(r"\n[ \t]*\n", cleandoc(docstring)):
        lines = paragraph.splitlines()
        if all(line.startswith("    ") for line in lines):
            if found and found[-1].sort == CODE:
                found[-1].lines.extend(["", *dedent(paragraph).splitlines()])
            else:
                found.append(Block(CODE, dedent(paragraph).splitlines()))
        else:
            found += _of_prose(lines)
    return found


def _of_prose(lines: list[str]) -> Iterator[Block]:
    """A paragraph's fields, list items and prose: one may follow on the other without an empty line."""
    current: Block | None = None
    for line in lines:
        begins = current is None or current.sort == FIELDS  # in the midst of prose, "word: " is prose
        sort = FIELDS if begins and FIELD.match(line) else ITEMS if line.startswith("* ") else PROSE
        goes_on = line.startswith(" ") or (sort == PROSE and line[:1].islower())
        if current is not None and (goes_on or sort == current.sort):
            current.lines.append(line)
        else:
            if current is not None:
                yield _split(current)
            current = Block(sort, [line])
    if current is not None:
        yield _split(current)


def _split(block: Block) -> Block:
    """The block; of fields, each with its text: a line may hold several, each after a full stop or a semicolon."""
    if block.sort != FIELDS:
        return block
    text = " ".join(line.strip() for line in block.lines)
    _, *found = re.split(rf"(?:^|(?<=[.;] )){FIELD.pattern}", text)
    return Block(
        FIELDS, [], {name: message.strip().rstrip(";") for name, message in zip(found[::2], found[1::2], strict=True)}
    )


def first_sentence(docstring: str) -> str:
    """The first paragraph up to its first full stop, on one line; empty where there is none."""
    first = next((" ".join(block.lines) for block in blocks(docstring) if block.sort == PROSE), "")
    return re.split(r"(?<=[.?!]) (?=[A-Z])", first)[0]


def markdown(docstring: str, *, fields: bool = True) -> str:
    """A docstring for a MyST page, without its fields where a table shows them."""
    pieces = []
    for block in blocks(docstring):
        if block.sort == CODE:
            pieces.append("\n".join(["```python", *block.lines, "```"]))
        elif block.sort == FIELDS:
            if fields:
                pieces.append("\n".join(f"* `{name}`: {plain(message)}" for name, message in block.fields.items()))
        else:
            pieces.append(_marked("\n".join(block.lines), plain))
    return "\n\n".join(pieces)


def restructured(docstring: str) -> list[str]:
    """A docstring as the lines that autodoc passes on."""
    lines: list[str] = []
    for block in blocks(docstring):
        if block.sort == CODE:
            lines += [".. code-block:: python", "", *indent("\n".join(block.lines), "   ").splitlines()]
        elif block.sort == FIELDS:
            lines += [f"* ``{name}``: {_rst(message)}" for name, message in block.fields.items()]
        else:
            lines += _marked("\n".join(block.lines), _rst).splitlines()
        lines.append("")
    return lines


def plain(text: str) -> str:
    """Prose with what Markdown would take for a mark escaped, but code in backticks as it is."""
    return _outside_of_code(text, lambda piece: re.sub(r"([\\*_\[\]<>|$#~])", r"\\\1", piece), "`")


def _marked(text: str, escape: Callable[[str], str]) -> str:
    """Prose or a list: the stars that begin an item stay what they are."""
    return re.sub(r"^\\\* ", "* ", escape(text), flags=re.MULTILINE)


def _rst(text: str) -> str:
    return _outside_of_code(text, lambda piece: re.sub(r"([\\*_|])", r"\\\1", piece), "``")


def _outside_of_code(text: str, change: Callable[[str], str], mark: str) -> str:
    pieces = re.split(r"`+([^`]+)`+", text)
    return "".join(f"{mark}{piece}{mark}" if number % 2 else change(piece) for number, piece in enumerate(pieces))
