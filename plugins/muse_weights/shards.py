"""Weights in several files: which ones an index lists, that none lies elsewhere, and that all of it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from muse_studio.errors import UserError
from muse_studio.runtime.files import file_name
from muse_studio.runtime.matching import Tensors


@dataclass(frozen=True)
class Files:
    """Files of weights on this machine. homes: the file of each tensor by name, as the index of that name says."""

    paths: tuple[Path, ...]
    index: str = ""
    homes: Mapping[str, Path] = field(default_factory=dict)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table of JSON; ValueError where a key stands in it twice."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"it has {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return table


def shards_of(table: Mapping[str, Any], index: str) -> dict[str, str]:
    """The file name of each tensor by an index; UserError where it says none, or one that may be no file's."""
    listed = table.get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{index}: weight_map is no table of names to files but {listed!r:.40}; fetch it again")
    return {name: file_name(shard, index) for name, shard in listed.items()}


def check_inside(folder: Path, path: Path, index: str) -> None:
    """UserError where a file is a link out of its folder; the hub's cache keeps its own beside `snapshots`."""
    folder, real = folder.resolve(), path.resolve()
    above = next((each.parent for each in folder.parents if each.name == "snapshots"), None)
    if not real.is_relative_to(folder) and not (above and real.is_relative_to(above / "blobs")):
        raise UserError(f"{index}: {path.name} is a link to {real}, outside of its folder; put the file itself there")


def together(files: Files, each: Mapping[Path, Tensors]) -> Tensors:
    """The tensors of all files; UserError where two have one name, or where one is not in the file that is said."""
    owners: dict[str, Tensors] = {}
    shapes: dict[str, list[int]] = {}
    strange: dict[str, str] = {}
    for path, tensors in each.items():
        if twice := next((name for name in tensors.shapes if name in owners), None):
            raise UserError(
                f"{files.index or path}: {twice!r} is in more than one file, also in {path.name}; fetch them again"
            )
        owners |= dict.fromkeys(tensors.shapes, tensors)
        shapes |= tensors.shapes
        strange |= tensors.strange
    for name, path in files.homes.items():
        if name not in each[path].shapes and name not in each[path].strange:
            raise UserError(f"{files.index}: {name!r} is to be in {path.name}, which lacks it; fetch both again")

    def read(name: str) -> Tensor:
        return owners[name].read(name)

    return Tensors(shapes, read, strange)
