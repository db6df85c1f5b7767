"""Recipes: found by name, parents and overrides merged in, every value still knowing where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from muse_studio.errors import Problem, RecipeError, UserError
from muse_studio.recipe.sources import PICTURE_KEY, find, shipped, shown, text_of
from muse_studio.recipe.tree import Node, from_plain, parse, to_yaml, typed

__all__ = ["PICTURE_KEY", "Node", "load", "merge", "override", "overrides", "shipped", "to_yaml"]

SHOWN = 500
"""Letters of an override that are repeated to who typed it."""


def load(source: str | Path | Mapping[str, Any], changes: Iterable[Node] = ()) -> Node:
    """A recipe with its parents and the changes merged in.

    source: a YAML file, a shipped recipe's name, a picture that carries its recipe, or a table as a dict.
    changes: made by `override` or `overrides`; later ones win.

    Raises UserError where there is no such recipe, RecipeError where one can't be read or merged.
    """
    if isinstance(source, Mapping):
        root = _expand(from_plain(source, "recipe"), Path(), [])
    else:
        root = _read(find(str(source), Path()), [])
    return reduce(merge, (_expand(change, Path(), []) for change in changes), root)


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


def _read(path: Path, chain: list[Path]) -> Node:
    """One recipe file with its parents merged in; `chain` holds the files that led to it."""
    chain = [*chain, path.resolve()]
    if path.resolve() in chain[:-1]:
        raise UserError("recipes extend each other in a circle: " + " extends ".join(map(shown, chain)))
    root = parse(text_of(path), shown(path))
    if root is None or root.value is None:
        raise UserError(f"{shown(path)} is empty; a recipe says at least what to use or what it extends")
    if not isinstance(root.value, dict):
        kind = "a list" if isinstance(root.value, list) else repr(root.value)
        raise RecipeError([Problem(root.place, "", f"a recipe is a table of key: value; this is {kind}")])
    return _expand(root, path.parent, chain)


def _expand(node: Node, folder: Path, chain: list[Path], path: str = "") -> Node:
    """The tree with each table's `extends` replaced by what it names, merged below."""
    if isinstance(node.value, list):
        return Node([_expand(each, folder, chain, f"{path}[{i}]") for i, each in enumerate(node.value)], node.place)
    if not isinstance(node.value, dict):
        return node
    rest = {key: each for key, each in node.value.items() if key != "extends"}
    dotted = f"{path}." if path else ""
    own = {key: _expand(each, folder, chain, f"{dotted}{key}") for key, each in rest.items()}
    table = replace(node, value=own)
    if "extends" not in node.value:
        return table
    named = node.value["extends"]
    parent = _parent(named, folder, chain, f"{dotted}extends")
    assert isinstance(parent.value, dict)  # _read refuses all else
    if _differ(parent.value, own):
        message = (
            f"{named.value!r} is for {_use(parent.value)!r}, but this table says use: {_use(own)}, so nothing "
            "of it would remain; leave one of them out"
        )
        raise _refusal(named, f"{dotted}extends", message)
    return merge(parent, table)


def _parent(named: Node, folder: Path, chain: list[Path], path: str) -> Node:
    if isinstance(named.value, list):
        message = "a table extends one recipe: of two, none could say whose settings count; let one extend the other"
        raise _refusal(named, path, message)
    if not isinstance(named.value, str):
        raise _refusal(named, path, f"expected a recipe's name, got {named.value!r}")
    try:
        return _read(find(named.value, folder), chain)
    except RecipeError:
        raise
    except UserError as error:
        raise _refusal(named, path, str(error)) from error


def _nested(path: str, node: Node, place: str) -> Node:
    return reduce(lambda inner, key: Node({key: inner}, place), reversed(path.split(".")), node)


def _use(table: Mapping[str, Node]) -> Any:
    return table["use"].value


def _differ(below: Mapping[str, Node], above: Mapping[str, Node]) -> bool:
    """Whether two tables name two parts."""
    return "use" in below and "use" in above and _use(below) != _use(above)


def _refusal(node: Node, path: str, message: str) -> RecipeError:
    return RecipeError([Problem(node.place, path, message)])
