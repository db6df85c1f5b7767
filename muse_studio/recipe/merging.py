"""Recipes: found by name, parents and overrides merged in, every value still knowing where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from muse_studio.errors import Problem, RecipeError, UserError
from muse_studio.recipe.sources import PICTURE_KEY, Picture, find, shipped, shown, text_of
from muse_studio.recipe.tree import LARGEST, LARGEST_DRAWN, Node, from_plain, parse, to_yaml, typed
from muse_studio.runtime.launch import trusted

__all__ = ["PICTURE_KEY", "Node", "load", "merge", "override", "overrides", "shipped", "to_yaml"]

FILES = 100
"""Files that a recipe may be made of, by `extends`; none that is shipped has ten."""
SHOWN = 500
"""Letters of an override that are repeated to who typed it."""


@dataclass
class Reading:
    """What was read for one recipe: each file once, however often it is named, and no more than there may be.

    known: of each file, its tree with its parents in it, and how many values that has. values: of the recipe so far.
    pictures: those among the files. problems: what these may not extend.
    """

    known: dict[Path, tuple[Node, int]] = field(default_factory=dict)
    values: int = 0
    pictures: list[Picture] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def load(source: str | Path | Mapping[str, Any] | Node, changes: Iterable[Node] = (), *, obey: bool = True) -> Node:
    """A recipe with its parents and the changes merged in.

    source: a YAML file, a shipped recipe's name, a picture that carries its recipe, a table as a dict, or a tree that
    was loaded before.
    changes: made by `override` or `overrides`; later ones win.
    obey: the recipe is to be run or checked, so what a picture wants beyond values is a problem, unless pictures are
    trusted. To print it, it is none; what it may not `extend` is one always.

    Raises UserError where there is no such recipe, RecipeError where one can't be read or merged.
    """
    reading = Reading()
    if isinstance(source, Node):
        root = source
    elif isinstance(source, Mapping):
        root = _expand(from_plain(source, "recipe"), Path(), [], reading)
    else:
        root = _read(find(str(source), Path()), [], reading)
    root = reduce(merge, (_expand(change, Path(), [], reading) for change in changes), root)
    if reading.pictures:
        from muse_studio.recipe import strangers  # what nobody needs who has no picture

        problems = reading.problems + (strangers.wants(root, reading.pictures) if obey and not trusted() else [])
        if problems:
            raise RecipeError(problems)
        strangers.compare_weights(root, reading.pictures)
    return root


def override(text: str) -> Node:
    """One "key.path=value", the value read as YAML, as a table to merge; UserError where it has no such form."""
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise UserError(f"{text!r} is no override; write key.path=value, such as stages.base.sampler.steps=8")
    place = f"override {text if len(text) <= SHOWN else f'{text[:SHOWN]}…'!r}"
    try:
        node = parse(value, place, override=True) or Node(None, place)
    except RecipeError as error:
        cure = f"; as text, type {typed(text)}" if len(text) <= SHOWN else ""
        raise RecipeError([replace(each, message=each.message + cure) for each in error.problems]) from error
    return _nested(path, replace(node, given=text), place)


def overrides(given: Mapping[str, Any] | Iterable[str | Mapping[str, Any]] | None) -> list[Node]:
    """Overrides as text, as dicts from dotted path to value, or as a list of both, as tables to merge in order.

    A dict's value may be an object of Python, or hold some.
    """
    tables: list[Node] = []
    for each in [given] if isinstance(given, Mapping | str) else given or []:
        if isinstance(each, str):
            tables.append(override(each))
        else:
            tables += [
                _nested(path, from_plain(each[path], f"override {path!r}", objects=True), f"override {path!r}")
                for path in each
            ]
    return tables


def merge(below: Node, above: Node) -> Node:
    """Tables merge, and all else replaces; a table that names another part replaces the whole part.

    A part's bare name is the same as a table with only its `use`.
    """
    if isinstance(above.value, str) and isinstance(below.value, dict) and "use" in below.value:
        above = Node({"use": above}, above.place)
    if isinstance(below.value, str) and isinstance(above.value, dict):
        below = Node({"use": below}, below.place)
    if not isinstance(above.value, dict) or not isinstance(below.value, dict) or _differ(below.value, above.value):
        return above
    merged = dict(below.value)
    for key, node in above.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return replace(above, value=merged)


def _read(path: Path, chain: list[Path], reading: Reading) -> Node:
    """One recipe file with its parents merged in; `chain` holds the files that led to it."""
    whole = path.resolve()
    chain = [*chain, whole]
    if whole in chain[:-1]:
        raise UserError("recipes extend each other in a circle: " + " extends ".join(map(shown, chain)))
    before = reading.values
    if whole in reading.known:
        root, values = reading.known[whole]
        _count(reading, values, shown(path))
        return root
    if len(reading.known) + len(chain) > FILES:
        raise UserError(f"{shown(path)} is one file more than the {FILES} that a recipe may be made of; extend fewer")
    text = text_of(path)
    most = LARGEST if text.weights is None else LARGEST_DRAWN
    root = _table(parse(text.content, shown(path), most=most), path)
    _count(reading, _size(root), shown(path))
    if text.weights is not None:
        reading.pictures.append(Picture(path, root, text.weights))
    root = _expand(root, None if text.weights is not None and not trusted() else path.parent, chain, reading)
    reading.known[whole] = root, reading.values - before
    return root


def _table(root: Node | None, path: Path) -> Node:
    """The tree of a file, which must be a table."""
    if root is None or root.value is None:
        raise UserError(f"{shown(path)} is empty; a recipe says at least what to use or what it extends")
    if not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, list) else repr(root.value)
        raise RecipeError([Problem(root.place, "", f"a recipe is a table of key: value; this is {kind}")])
    return root


def _count(reading: Reading, values: int, name: str) -> None:
    """UserError where a recipe has too many values with all that it extends."""
    reading.values += values
    if reading.values > LARGEST:
        raise UserError(f"with {name}, which it extends, the recipe has more than {LARGEST} values; extend less often")


def _size(node: Node) -> int:
    inner = node.value.values() if isinstance(node.value, dict) else node.value
    return 1 + sum(map(_size, inner)) if isinstance(inner, list | type({}.values())) else 1


def _expand(node: Node, folder: Path | None, chain: list[Path], reading: Reading, path: str = "") -> Node:
    """The tree with each table's `extends` replaced by what it names, merged below.

    folder: whose recipes can be named beside those that are shipped; none by a picture.
    """
    if isinstance(node.value, list):
        entries = [_expand(each, folder, chain, reading, f"{path}[{i}]") for i, each in enumerate(node.value)]
        return Node(entries, node.place)
    if not isinstance(node.value, dict):
        return node
    rest = {key: each for key, each in node.value.items() if key != "extends"}
    dotted = f"{path}." if path else ""
    own = {key: _expand(each, folder, chain, reading, f"{dotted}{key}") for key, each in rest.items()}
    table = replace(node, value=own)
    if "extends" not in node.value:
        return table
    named = node.value["extends"]
    parent = _parent(named, folder, chain, reading, f"{dotted}extends")
    assert isinstance(parent.value, dict)  # _read refuses all else
    if _differ(parent.value, own):
        message = (
            f"{named.value!r} is for {_use(parent.value)!r}, but this table says use: {_use(own)}, so nothing "
            "of it would remain; leave one of them out"
        )
        raise _refusal(named, f"{dotted}extends", message)
    return merge(parent, table)


def _parent(named: Node, folder: Path | None, chain: list[Path], reading: Reading, path: str) -> Node:
    if isinstance(named.value, list):
        message = "a table extends one recipe: of two, none could say whose settings count; let one extend the other"
        raise _refusal(named, path, message)
    if not isinstance(named.value, str):
        raise _refusal(named, path, f"expected a recipe's name, got {named.value!r}")
    try:
        if folder is not None:
            return _read(find(named.value, folder), chain, reading)
        if (short := named.value.removesuffix(".yaml")) in (known := shipped()):
            return _read(known[short], chain, reading)
    except RecipeError:
        raise
    except UserError as error:
        raise _refusal(named, path, str(error)) from error
    message = f"a picture's recipe extends {named.value!r}, which is none that is shipped; --trust lets it"
    reading.problems.append(Problem(named.place, path, message))
    return Node({}, named.place)


def _nested(path: str, node: Node, place: str) -> Node:
    return reduce(lambda inner, key: Node({key: inner}, place), reversed(path.split(".")), node)


def _use(table: Mapping[str, Node]) -> Any:
    return table["use"].value


def _differ(below: Mapping[str, Node], above: Mapping[str, Node]) -> bool:
    """Whether two tables name two parts."""
    return "use" in below and "use" in above and _use(below) != _use(above)


def _refusal(node: Node, path: str, message: str) -> RecipeError:
    return RecipeError([Problem(node.place, path, message)])
