"""Which of the tables that a trainer's file holds is the model: the one that a dialect's table knows most names of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from muse_studio.errors import UserError, near
from muse_studio.runtime.dialects import Piece
from muse_studio.runtime.inert import StandIn, Stored
from muse_studio.runtime.matching import Tensors
from muse_studio.runtime.pickled import TorchFile, kind_of, table_of
from muse_studio.runtime.wrappers import as_the_table_has_them, knows

DEPTH = 4
"""Keys that are followed one into the other."""
SHOWN = 8
"""Keys and tables that an error names."""
AVERAGES = re.compile(r"(^|[._])(ema|average[sd]?|shadow)([._]|$)")
"""In a key, that moving averages lie there, which are what a model is meant to draw with."""

Table = dict[Any, Any]


def chosen(file: TorchFile, piece: Piece, key: str | None) -> Tensors:
    """The tensors of a piece in a trainer's file, with a note where others could be meant.

    key: under which keys they lie, with dots between; by default in the table of most names that the piece knows, of
    equal ones in the order of the piece's `unwrap`, then moving averages first. UserError where there is none.
    """
    tables = {".".join(path): table for path, table in _tables(file.held)}
    if not tables:
        raise UserError(f"{file.path} holds no tensors by name, but {_contents(file.held)}; it is another model's")
    if key is not None:
        if key not in tables:
            raise UserError(
                f"key is {key!r}, and {file.path} holds no tensors there;{near(key, tables)} it has them at "
                f"{_listed(tables)}"
            )
        return _tensors(file, tables[key])
    known = {path: _known(_tensors(file, table), piece) for path, table in tables.items()}
    most = max(known.values())
    best = [path for path, count in known.items() if count == most]
    path = min(best, key=lambda path: _rank(path, piece))
    others = [other for other, count in known.items() if other != path and 2 * count >= most > 0]
    notes = []
    if others:
        notes.append(f"read from {path or 'the top'}; key={others[0]} reads {_listed(others)}")
    elif not most:
        notes.append(f"it holds {_contents(file.held)}, of which {path or 'the top'} was read")
    return _tensors(file, tables[path], tuple(notes))


def plain(file: TorchFile) -> Tensors:
    """The tensors right in a file, as in a shard; UserError where it has no names."""
    table = table_of(file.held)
    if table is None:
        raise UserError(f"{file.path} holds a {kind_of(file.held)}, not tensors by name; it is another model's")
    return _tensors(file, table)


def _tables(held: Any) -> Iterator[tuple[tuple[str, ...], Table]]:
    """Each table with a tensor, or what stands in for one, right in it, by the keys to it; none is looked at twice."""
    level: list[tuple[tuple[str, ...], Any]] = [((), held)]
    seen: set[int] = set()
    for _ in range(DEPTH):
        below: list[tuple[tuple[str, ...], Any]] = []
        for path, value in level:
            table = table_of(value)
            if table is None or id(table) in seen:
                continue
            seen.add(id(table))
            if any(isinstance(each, Stored) for each in table.values()):
                yield path, table
            below += [((*path, key), each) for key, each in table.items() if isinstance(key, str)]
        level = below


def _tensors(file: TorchFile, table: Table, notes: tuple[str, ...] = ()) -> Tensors:
    named = {name: each for name, each in table.items() if isinstance(name, str)}
    stored = {name: each for name, each in named.items() if isinstance(each, Stored)}
    strange = {name: each.name for name, each in named.items() if isinstance(each, StandIn)}
    shapes = {name: list(each.shape) for name, each in stored.items()}
    return Tensors(shapes, lambda name: file.read(stored[name]), strange, notes)


def _known(tensors: Tensors, piece: Piece) -> int:
    """How many of the names the piece's rules know, without what is wrapped around them."""
    try:
        tensors = as_the_table_has_them(tensors, piece)
    except UserError:  # two of one name, which is told where that table is the one
        return sum(knows(piece, name) for name in tensors.shapes)
    return sum(any(re.fullmatch(rule.pattern, name) for rule in piece.rules) for name in tensors.shapes)


def _rank(path: str, piece: Piece) -> tuple[int, bool]:
    """Which of equal tables is taken: lower ones."""
    words = path.split(".")
    order = next((place for place, word in enumerate(piece.unwrap) if word in words), len(piece.unwrap))
    return order, AVERAGES.search(path) is None


def _listed(words: Iterable[str]) -> str:
    """Some words, and how many there are besides."""
    shown = [word or "the top" for word in words]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def _contents(held: Any) -> str:
    """What a file holds: its keys, or what it is instead of a dict."""
    table = table_of(held)
    if table is None:
        return f"a {kind_of(held)}"
    return _listed([f"{key[:40]}" if isinstance(key, str) else kind_of(key) for key in table]) or "nothing"
