"""A stranger's picture: what its recipe wants beyond values, and whether its weights are those that will be used."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from muse_studio.errors import Problem
from muse_studio.recipe.sources import Picture, shipped, shown, text_of
from muse_studio.recipe.tree import Node, parse
from muse_studio.registry.kinds import kinds
from muse_studio.runtime import weights
from muse_studio.runtime.files import path_of

DRAWING = ("generate", "edit", "canvas", "muse_tasks/generate", "muse_tasks/edit", "muse_tasks/canvas")
"""The tasks that a picture may ask for."""

PLACES = frozenset(
    (
        *("address", "cache", "checkpoint", "checkpoints", "data", "dataset", "dir", "directory", "extends", "file"),
        *("filename", "files", "folder", "folders", "from", "image", "images", "linear", "log", "logs", "model"),
        *("models", "names", "network", "out", "output", "outputs", "path", "paths", "picture", "pictures", "plugin"),
        *("recipe", "region", "root", "save", "source", "sources", "to", "upload", "url", "weights", "words"),
    )
)
"""Words of a setting's name by which it is one of a file, a folder, an address or a model of the hub."""

_TEXTS = ("prompt", "negative")
_BOX = re.compile(r"\s*-?\d+(\s*,\s*-?\d+){3}\s*")  # "x,y,w,h"
_PART = re.compile(r"[\w-]+(/[\w.-]+)?")  # of a name, with its plugin's before it
_LINE = re.compile(r"(?P<path>\S*) (?P<address>.+) sha256:(?P<sum>[0-9a-f]{64})")

Way = tuple[str | int, ...]
"""Keys and indices from the root to a value."""


def names_a_place(setting: str) -> bool:
    """Whether a setting of this name says where something is, or is to be."""
    return not PLACES.isdisjoint(re.split(r"[^a-z0-9]+", setting.lower()))


def is_box(text: str) -> bool:
    """Whether a region is a box of pixels, and no file."""
    return _BOX.fullmatch(text) is not None


def wants(root: Node, pictures: Iterable[Picture]) -> list[Problem]:
    """What is left in a recipe of what a picture wants and may not: all but values for parts over a model known here.

    What an override has replaced is its user's, and no picture's any more.
    """
    theirs = {id(leaf) for each in pictures for _, leaf in _leaves(each.root)}  # trees are shared, never copied
    tasks = {id(each.root.value["use"]) for each in pictures if isinstance(each.root.value, dict) and _use(each.root)}
    problems: dict[str, Problem] = {}
    for way, leaf in _leaves(root):
        if id(leaf) not in theirs:
            continue
        reason = _task(leaf) if id(leaf) in tasks else _reason(way, leaf)
        path = "observers" if "observers" in way else dotted(way)
        if reason and path not in problems:
            cure = "" if reason == _OBSERVERS else f"give your own as {path}=..., or "
            problems[path] = Problem(leaf.place, path, f"{reason}; {cure}--trust lets the picture have its way")
    return list(problems.values())


def compare_weights(root: Node, pictures: Iterable[Picture]) -> None:
    """Warn where a picture was drawn with other weights than the recipe has now; nothing is fetched for it."""
    for picture in pictures:
        told = {
            match["path"]: match["sum"] for line in picture.weights.splitlines() if (match := _LINE.fullmatch(line))
        }
        for way, leaf in _leaves(root):
            drawn = told.get(dotted(way[:-1])) if way[-1:] == ("weights",) else None
            found = weights.checksum(leaf.value) if drawn and isinstance(leaf.value, str) else None
            if found and found != drawn:
                warnings.warn(
                    f"{shown(picture.path)} was drawn with other weights: {dotted(way)} had sha256 {drawn}, and "
                    f"{leaf.value} has {found}; what is drawn will differ",
                    stacklevel=2,
                )


def dotted(way: Way) -> str:
    """A way as messages have it: "stages.base.sampler", "metrics[0]"."""
    return "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in way).removeprefix(".")


def _leaves(node: Node, way: Way = ()) -> Iterator[tuple[Way, Node]]:
    if isinstance(node.value, dict):
        for key, each in node.value.items():
            yield from _leaves(each, (*way, key))
    elif isinstance(node.value, list):
        for index, each in enumerate(node.value):
            yield from _leaves(each, (*way, index))
    else:
        yield way, node


def _use(root: Node) -> bool:
    return isinstance(root.value, dict) and "use" in root.value


_OBSERVERS = "a picture may bring no observers"


def _task(leaf: Node) -> str:
    if leaf.value in DRAWING:
        return ""
    return f"a picture may ask for the tasks generate, edit and canvas alone, and this one asks for {leaf.value!r}"


def _reason(way: Way, leaf: Node) -> str:
    """Why a picture may not give this value, empty where it may."""
    keys = [each for each in way if isinstance(each, str)]
    key, text = (keys[-1] if keys else ""), leaf.value
    if "observers" in keys:
        return _OBSERVERS
    said = len(keys) == 1 or (len(keys) == 2 and keys[0] == "actions")
    if not isinstance(text, str) or (said and key in _TEXTS):
        return ""
    if key == "region" and is_box(text):
        return ""
    if key in ("weights", "model") and _is_known(text):
        return ""
    if "://" in text or "::" in text:
        return "" if (key, text) in _of_models() else f"a picture may name no address, and this one names {text!r}"
    if names_a_place(key):
        known = not text or (key, text) in _of_models()
        return "" if known else f"a picture may name no file, folder or model, and this one names {text!r}"
    if (key == "use" or key.replace("_", "-") in kinds()) and _PART.fullmatch(text):
        return ""
    if re.search(r"[/\\\0]", text) or text.startswith(("~", "..")):
        return f"a picture may name no path, and this one names {text!r}"
    return ""


def _is_known(address: str) -> bool:
    """Whether these weights, or this folder of a model, come with an installed package or lie in the cache folder."""
    if address.startswith("package://"):
        return not {"..", "."} & set(re.split(r"[/\\]", address))
    from muse_studio.runtime.fetching import cache_folder

    return "://" not in address and path_of(address).resolve().is_relative_to(cache_folder().resolve())


@cache
def _of_models() -> frozenset[tuple[str, str]]:
    """Every text of the shipped models' recipes, with the key that it has there."""
    models = [path for name, path in shipped().items() if name.startswith("models/")]
    found = (each for path in models for each in _leaves(_parsed(path)))
    return frozenset((str(way[-1]), leaf.value) for way, leaf in found if isinstance(leaf.value, str))


def _parsed(path: Path) -> Node:
    return parse(text_of(path).content, path.name) or Node(None, path.name)
