"""Which recipes a sweep stands for: one for each combination of its settings, all checked before the first is run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from muse_studio.errors import Problem, RecipeError, UserError, listed, near
from muse_studio.recipe import merging, running
from muse_studio.registry.events import progress

LONGEST = 32
"""Letters of a value on a label; of a longer one, such as a path, the middle is left out."""


@dataclass(frozen=True)
class Axis:
    """One setting and its values.

    key: as the sweep has it. path: the whole one. label: the shortest end of the path that no other setting has.
    swept: whether it stands in the table; else it is one value for all.
    """

    key: str
    path: str
    label: str
    values: list[Any]
    swept: bool

    @property
    def labels(self) -> list[str]:
        """Its values as people read them, each another one."""
        found: list[str] = []
        for label in map(value_label, self.values):
            found.append(label if label not in found else f"{label} ({len(found) + 1})")
        return found


@dataclass
class Combination:
    """One value of each setting.

    places: which of its values, setting by setting. labels: by the labels of the settings that are swept. recipe: all
    merged, None where it was refused. problems: what the check found.
    """

    places: tuple[int, ...]
    labels: dict[str, str]
    recipe: dict[str, Any] | None = None
    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.labels.items())


def read_axes(settings: Mapping[str, Any], known: Sequence[str]) -> list[Axis]:
    """The settings of a sweep. known: every path of its recipe.

    A list holds the values of a setting, a table the rest of its path, anything else is the one value for all. A path
    may begin anywhere, where one path of the recipe alone goes on so. UserError where several do, or where two
    settings mean the same.
    """
    flat = list(_flat(settings))
    paths = [_whole(key, known) for key, _ in flat]
    if twice := {path for path in paths if paths.count(path) > 1}:
        raise UserError(f"settings: {listed(twice)} is there twice; give all its values in one list")
    return [
        Axis(key, path, _label(path, paths), value if isinstance(value, list) else [value], isinstance(value, list))
        for (key, value), path in zip(flat, paths, strict=True)
    ]


def combine(source: str | dict[str, Any], settings: Mapping[str, Any], files: running.Files) -> list[Combination]:
    """Every combination of a sweep's settings, the last one's values changing fastest, each checked.

    source: the recipe that is run each time. files: plugin files, as `api.run` takes them.

    Raises RecipeError where a setting, or a value in whatever combination, names what is not there or has a wrong type,
    and where no combination is left; UserError where two combinations are the same.
    """
    known = list(_paths(merging.load(source).plain()))
    axes = read_axes(settings, known)
    combinations = []
    for places in progress(list(itertools.product(*(range(len(axis.values)) for axis in axes))), "checking"):
        chosen = list(zip(axes, places, strict=True))
        labels = {axis.label: axis.labels[place] for axis, place in chosen if axis.swept}
        changes = [{axis.path: axis.values[place]} for axis, place in chosen]
        made = Combination(places, labels, problems=running.check(source, changes, files))
        if not made.problems:
            made.recipe = merging.load(source, merging.overrides(changes)).plain()
        combinations.append(made)
    if problems := _mistakes(combinations, axes, known):
        raise RecipeError(problems)
    _refuse_equal(combinations)
    return combinations


def value_label(value: Any) -> str:
    """A value on a label: a table of a part as its name and settings, a number without needless digits."""
    if isinstance(value, dict):
        rest = (f"{key}={value_label(each)}" for key, each in value.items() if key != "use")
        text = " ".join([*([str(value["use"])] if "use" in value else []), *rest])
    elif isinstance(value, list):
        text = f"[{', '.join(map(value_label, value))}]"
    elif isinstance(value, float):
        text = f"{value:g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 2]}...{text[1 - half :]}"


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _paths(table: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in table.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{key}.")


def _whole(key: str, known: Sequence[str]) -> str:
    """The path that a key means: as much of its beginning as the recipe has, and the rest as it stands.

    So `sampler.top_k` is found where the recipe leaves top_k out. A key of which nothing is found is left to the check.
    """
    words = key.split(".")
    for count in range(len(words), 0, -1):
        head, rest = ".".join(words[:count]), words[count:]
        if head in known:
            return key
        found = [path for path in known if path.endswith(f".{head}")]
        if len(found) > 1:
            raise UserError(f"settings: {key!r} is short for {listed(found)}; write out the one that is meant")
        if found:
            return ".".join([*found, *rest])
    return key


def _label(path: str, paths: Sequence[str]) -> str:
    words = path.split(".")
    ends = [".".join(words[start:]) for start in reversed(range(len(words)))]
    return next((end for end in ends if sum(f".{each}".endswith(f".{end}") for each in paths) == 1), path)


def _mistakes(combinations: list[Combination], axes: list[Axis], known: Sequence[str]) -> list[Problem]:
    """What is wrong whatever the rest: problems that each combination with a value has at that very setting.

    A part that refuses its settings is no such mistake, as long as any combination is left.
    """
    refused = [each.problems for each in combinations]
    paths = [{each.path for each in those} for those in refused]
    common = {each.path: each for each in reversed(refused[0]) if all(each.path in those for those in paths)}
    found = {path: _placed(each) for path, each in common.items() if _owner(each, axes) is None}
    for index, axis in enumerate(axes):
        for place in range(len(axis.values)):
            those = [each.problems for each in combinations if each.places[index] == place]
            own = [[each for each in one if not each.by_part and _owner(each, axes) is axis] for one in those]
            if all(own):
                found.setdefault(own[0][0].path, _explained(own[0][0], axis, known))
    if not found and all(refused):
        found = {each.path: _placed(each) for those in reversed(refused) for each in those}
    return list(found.values())


def _owner(problem: Problem, axes: list[Axis]) -> Axis | None:
    """The setting at which, or in whose value, a problem is: of several, one within another's value, the innermost."""
    above = {path: len(path) for path in _enclosing(problem.path)}
    return max((axis for axis in axes if axis.path in above), key=lambda axis: above[axis.path], default=None)


def _enclosing(path: str) -> Iterator[str]:
    """A setting's path and those of all that it lies in: a.b[2].c, a.b[2], a.b, a."""
    keys = path.replace("[", ".[").split(".")
    for count in range(len(keys), 0, -1):
        yield ".".join(keys[:count]).replace(".[", "[")


def _explained(problem: Problem, axis: Axis, known: Sequence[str]) -> Problem:
    if axis.path in known or "." in axis.path or problem.path != axis.path:
        return _placed(problem)
    hint = near(axis.key, {path.rpartition(".")[2] for path in known})
    return Problem("settings", axis.key, f"no path of the recipe ends so;{hint or ' give one, such as sampler.steps'}")


def _placed(problem: Problem) -> Problem:
    return replace(problem, place="settings") if problem.place.startswith("override ") else problem


def _refuse_equal(combinations: list[Combination]) -> None:
    first: dict[str, Combination] = {}
    for each in combinations:
        if each.recipe is None:
            continue
        same = first.setdefault(json.dumps(each.recipe), each)
        if same is not each:
            raise UserError(
                f"settings: {same} and {each} are the same recipe; give no value twice, and a part before its own "
                "settings, as a part replaces the one before it with all that is set in it"
            )


def name_of(source: str | dict[str, Any]) -> str:
    """What is run each time, in a word."""
    return Path(source).stem if isinstance(source, str) else str(source.get("use", "recipe"))
