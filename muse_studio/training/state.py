"""What a checkpoint says of itself: its step and files, and what its run was made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from muse_studio.errors import UserError, words_of
from muse_studio.training.fit import STATE, Fit

LARGEST = 16 * 2**20
"""Bytes of it that are read: it holds a recipe, and a line a file."""

UNCOUNTED = (
    *("out", "steps", "accumulate", "parallel", "compile", "checkpoint_every", "keep", "log_every", "workers"),
    *("patience", "dtype", "diverged", "device", "resume", "upload"),
)
"""Settings of `fit` that may change on the way: where a run goes and how it is computed, not what it learns from."""

BESIDE = ("fit", "observers", "samples", "cache")
"""Of a recipe, what is no part of what a run is made of; `fit` counts setting by setting."""

RECORDS, FIRST = "the number of records in the data set", "the first record of the data set"

SHOWN = 12
"""Differences that are named; the others are counted."""


class Damaged(UserError):
    """A checkpoint is not what was written; the message names it and what is wrong."""


@dataclass
class Identity:
    """What a run is made of, by dotted setting, and what of it was changed on the way.

    changes: each a dict of the `step` from which it holds, and of `settings`, by name what was and what is.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def differences(self, now: Identity) -> dict[str, list[Any]]:
        """The settings that differ, each with what was and what is.

        What only a recipe says is compared where both runs had one.
        """
        keys = list(dict.fromkeys([*self.settings, *now.settings]))
        both = _has_recipe(self.settings) and _has_recipe(now.settings)
        pairs = {key: [_of(each.settings, key) for each in (self, now)] for key in keys if both or not _of_recipe(key)}
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def identity(fit: Fit, recipe: Mapping[str, Any], dataset: Any) -> Identity:
    """What a run is made of: `fit`, the recipe where there is one, and what can be seen of the data at a glance."""
    made = dict(_flat({key: value for key, value in recipe.items() if key not in BESIDE}))
    made |= {f"fit.{key}": value for key, value in asdict(fit).items() if key not in UNCOUNTED}
    made[RECORDS] = len(dataset)
    if len(dataset):
        made[FIRST] = _seen(dataset)
    return Identity(json.loads(json.dumps(made, default=str)))


def told(differences: Mapping[str, Sequence[Any]]) -> str:
    """Words for what differs, such as "fit.seed was 0 and is 1"."""
    shown = [f"{key} was {_short(was)} and is {_short(now)}" for key, (was, now) in differences.items()]
    more = [f"and {len(shown) - SHOWN} more"] * (len(shown) > SHOWN)
    return "; ".join([*shown[:SHOWN], *more])


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not (value or not path):
        yield path, value
        return
    for key, each in value.items():
        yield from _flat(each, f"{path}.{key}" if path else str(key))


def _of_recipe(key: str) -> bool:
    return not key.startswith("fit.") and key not in (RECORDS, FIRST)


def _has_recipe(settings: Mapping[str, Any]) -> bool:
    return any(map(_of_recipe, settings))


def _of(settings: Mapping[str, Any], key: str) -> Any:
    """A setting; one of `fit` that another version did not know had no other value than its default."""
    defaults = {f"fit.{each.name}": each.default for each in fields(Fit) if each.default is not MISSING}
    return settings.get(key, defaults.get(key, "not given"))


def _seen(dataset: Any) -> str:
    """A record's shapes, and its text where that is the same each time: numbers may be rounded otherwise elsewhere."""
    one, other = dataset[0], dataset[0]
    if not isinstance(one, Mapping):
        return _look(one)
    return ", ".join(f"{key} {_look(one[key])}" for key in one if _look(one[key]) == _look(other[key]))


def _look(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return repr(value[:200]) if isinstance(value, str) else type(value).__name__


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"


@dataclass
class State:
    """A checkpoint's own words. `files`: each one's size; `checksums`: its SHA-256; `optimizers`: each one's kind;
    `averaged`: the steps that its running average has taken in.

    One of an earlier version has no checksums, no identity, and an average of all steps.
    """

    step: int
    files: dict[str, int]
    checksums: dict[str, str] = field(default_factory=dict)
    optimizers: dict[str, str] = field(default_factory=dict)
    identity: Identity | None = None
    averaged: int | None = None

    @classmethod
    def of(
        cls,
        folder: Path,
        step: int,
        names: Iterable[str],
        optimizers: dict[str, str],
        made: Identity,
        averaged: int | None = None,
    ) -> State:
        """That of the files of these names in a folder."""
        sizes = {name: (folder / name).stat().st_size for name in sorted(names)}
        return cls(step, sizes, checksums(folder, sizes), optimizers, made, averaged)

    @classmethod
    def read(cls, folder: Path) -> State:
        """What a checkpoint says; Damaged where it says nothing, or what can't be, or where a file's size differs."""
        path = folder / STATE
        try:
            if path.stat().st_size > LARGEST:
                raise ValueError(f"more than {LARGEST} bytes")
            found = cls._checked(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise Damaged(f"{folder} has no {STATE}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise Damaged(f"{path} is not what a run wrote ({words_of(error)})") from error
        if folder.name != f"step-{found.step:07d}":
            raise Damaged(f"{path} is of step {found.step}")
        sizes = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
        if found.files != sizes:
            wrong = sorted(name for name in {*sizes, *found.files} if sizes.get(name) != found.files.get(name))
            raise Damaged(f"{folder} has not the files of the sizes that were written: {', '.join(wrong)}")
        return found

    @classmethod
    def _checked(cls, said: Any) -> State:
        """ValueError where a field is missing or of another type."""
        if not isinstance(said, dict):
            raise ValueError("no table")
        step, made = said.get("step"), said.get("identity")
        if type(step) is not int or step < 0:
            raise ValueError(f"its step is {step!r}")
        averaged = said.get("averaged")
        if averaged is not None and (type(averaged) is not int or averaged < 0):
            raise ValueError(f"its averaged is {averaged!r}")
        files, optimizers = _table(said, "files", int), _table(said, "optimizers", str)
        found = cls(step, files, _table(said, "checksums", str), optimizers, averaged=averaged)
        if not found.files:
            raise ValueError("it names no file")
        if not found.checksums.keys() <= found.files.keys():
            raise ValueError("it has checksums of files that it does not name")
        if made is not None:
            settings = _table(made, "settings", object) if isinstance(made, dict) else None
            changes = made.get("changes") if isinstance(made, dict) else None
            if settings is None or not isinstance(changes, list):
                raise ValueError("its identity is no table of settings and changes")
            found.identity = Identity(settings, changes)
        return found

    def check_files(self, folder: Path) -> None:
        """Damaged where a file's content is not what was written."""
        for name, wanted in self.checksums.items():
            try:
                found = _checksum(folder / name)
            except OSError as error:
                raise Damaged(f"{folder / name} can't be read: {error.strerror or words_of(error)}") from error
            if found != wanted:
                raise Damaged(f"{folder / name} is damaged: its checksum is not the one that was written")

    def write(self, folder: Path) -> None:
        """Write it beside the files."""
        (folder / STATE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def _table(said: dict[str, Any], key: str, kind: type) -> dict[str, Any]:
    """A table of that kind of values; ValueError where it is none. What came with a later version may be missing."""
    found = said.get(key, None if key == "files" else {})
    if not isinstance(found, dict) or not all(isinstance(each, kind) for each in found.values()):
        raise ValueError(f"its {key} are {_short(found)}")
    return found


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each file, by name."""
    return {name: _checksum(folder / name) for name in names}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
