"""What a client sets: checked before anything is made of it, and told in the words of `muse check`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from muse_server.parts import KINDS, OF_STAGE, kinds_in
from muse_server.refusals import Refusal
from muse_studio.errors import RecipeError, UserError, near
from muse_studio.recipe import merging
from muse_studio.recipe.strangers import names_a_place
from muse_studio.recipe.tree import Node
from muse_studio.registry.kinds import kind_named
from muse_studio.sampling.cascade import Cascade
from muse_studio.sampling.variants import part_problems

DEEPEST, VALUES = 20, 1000
"""How deep a client's settings may be nested, and how many values they may hold."""
LONGEST = 200
"""Letters of a text in them: names, and choices."""
LARGEST = 10_000
"""The largest whole number."""
REPEATED, MOST = ("steps", "iterations"), 1024
"""What is done over and over, and how often at most: the model is everybody's meanwhile."""

_PART = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PATH = re.compile(r"[/\\~\0]|\.\.|:/")

Found = Iterator[tuple[str, str]]
"""Problems: the dotted path of the value, and what is wrong with it."""


def check_values(values: Any, param: str = "settings") -> None:
    """Refusal, naming the value by its dotted path from `param` on, where one could be the name of a place.

    No text that is a path or an address, no key that stands for one, no endless number, and of everything not too much.
    """
    for path, message in _strange_values(values, param):
        raise Refusal(f"{path}: {message}", param=path)


def check(model: Cascade, settings: Any = None, editor: Any = None) -> None:
    """Refusal with the first of `problems`, its `param` the dotted path from "settings" or "editor" on."""
    for each in problems(model, settings, editor):
        raise Refusal(f"{each['path']}: {each['message']}", param=each["path"])


def problems(model: Cascade, settings: Any = None, editor: Any = None) -> list[dict[str, str]]:
    """What is wrong with settings of the stages, by name, and with an editor, by name or as a table; None is nothing.

    Each is `{path: "settings.base.sampler.steps", message}`. Parts are planned and made without memory, as `muse check`
    does it, but only those that a client may name: see `KINDS`. To be called on any thread but the event loop's.
    """
    found = [*_strange_values(settings, "settings"), *_strange_values(editor, "editor")]
    if not found:
        found = [*_of_stages(model, settings), *_of_editor(model, editor)]
    return [{"path": path, "message": message} for path, message in found]


def _of_stages(model: Cascade, settings: Any) -> Found:
    if settings is None:
        return
    if not isinstance(settings, Mapping):
        yield "settings", "expected a table of the stages' settings, such as {base: {sampler: {steps: 8}}}"
        return
    for name, changes in settings.items():
        path = f"settings.{name}"
        if name not in model.stages:
            yield path, f"the model has no stage {name!r};{near(name, model.stages)} it has: {', '.join(model.stages)}"
        elif not isinstance(changes, Mapping):
            yield path, f"expected a table with {', '.join(OF_STAGE)}"
        else:
            for key, change in changes.items():
                if key in OF_STAGE:
                    own = (model.recipe or {"stages": {name: {}}})["stages"][name].get(key)
                    yield from _of_part(model, key, own, change, f"{path}.{key}")
                else:
                    cure = f";{near(key, OF_STAGE)} a client sets {', '.join(OF_STAGE)}, the rest is the recipe's"
                    yield f"{path}.{key}", f"{key!r} can't be set here{cure}"


def _of_editor(model: Cascade, editor: Any) -> Found:
    if editor is not None:
        yield from _of_part(model, "editor", None, editor, "editor")


def _of_part(model: Cascade, kind: str, own: Any, change: Any, path: str) -> Found:
    """What is wrong with one part of a kind, the client's table laid over the recipe's own."""
    tables = ([] if own is None else [{kind: own}]) + [{kind: change}]
    try:
        merged = merging.load({}, merging.overrides(tables))
    except RecipeError as error:
        yield from ((path, each.message) for each in error.problems)
        return
    assert isinstance(merged.value, dict)  # as it was given
    node = merged.value[kind]
    strange = list(_strange_parts(model, kind, node, change, path))
    yield from strange
    if not strange:
        for each in part_problems(model, kind, node):
            yield ".".join(filter(None, (path, each.path))), each.message


def _strange_parts(model: Cascade, kind: str, node: Node, change: Any, path: str) -> Found:
    """Parts within a part that hold weights: the recipe alone may say those."""
    if not isinstance(change, Mapping) or not isinstance(node.value, dict):
        return
    use = node.value.get("use", Node(None, ""))
    try:
        takes = model.registry.find(kind, str(use.value)).settings
    except UserError:
        return  # which the check tells
    for key, each in change.items():
        for inner in kinds_in(takes[key].annotation) if key in takes else ():
            if inner not in KINDS:
                yield f"{path}.{key}", f"{key} is {kind_named(inner).with_article}, which the recipe alone can name"
            else:
                yield from _strange_parts(model, inner, node.value[key], each, f"{path}.{key}")


def _strange_values(value: Any, path: str) -> Found:
    """The first value that no client may give."""
    left = VALUES
    waiting: list[tuple[str, str, Any, int]] = [(path, "", value, 0)]
    while waiting:
        path, key, each, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > DEEPEST:
            yield path, f"too much: at most {VALUES} values, nested {DEEPEST} deep"
            return
        if isinstance(each, Mapping):
            waiting += [(f"{path}.{_shown(inner)}", str(inner), value, depth + 1) for inner, value in each.items()]
        elif isinstance(each, list):
            waiting += [(f"{path}[{number}]", key, value, depth + 1) for number, value in enumerate(each)]
        if (message := _strange(key, each)) is not None:
            yield path, message
            return


def _strange(key: str, value: Any) -> str | None:
    """Why a client may not give this value under that key, None where it may."""
    if names_a_place(key):
        return "names a place, which a client may not"
    if len(key) > LONGEST or _PATH.search(key):
        return "is no name of a setting"
    if isinstance(value, str):
        if len(value) > LONGEST or not value.isprintable():
            return f"expected a text of at most {LONGEST} letters that can be printed"
        if _PATH.search(value) and not (key == "use" and _PART.fullmatch(value) and ".." not in value):
            return "a client may give no path and no address"
    elif isinstance(value, bool) or value is None or isinstance(value, Mapping | list):
        return None
    elif not isinstance(value, int | float):
        return f"expected text, a number, true, false, null, a list or a table, got {type(value).__name__}"
    elif isinstance(value, int):
        most = MOST if key in REPEATED else LARGEST
        return f"expected a whole number of at most {most:,}" if abs(value) > most else None
    elif not math.isfinite(value):
        return "expected a number, got one without end"
    return None


def _shown(key: Any) -> str:
    """A key in a path, which may be anything."""
    return str(key) if len(str(key)) <= LONGEST else f"{str(key)[:20]}…"
