"""Trees of arrays as flax saves them: its own msgpack files, and npz archives of flattened trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.matching import Tensors

ENDINGS = ("", ".msgpack", ".npz")
"""How such files' names end; those of MaskGIT's authors have no ending."""
ARRAY, SCALAR = 1, 3
"""The extension types of flax.serialization that hold an array: its shape, its type's name, its bytes."""
TYPES = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16", "float64", "int32", "int64", "bool")}

Array = TypeVar("Array")


class Packed:
    """An array of a msgpack file, still as bytes. ValueError where these are not those of its shape and type."""

    def __init__(self, shape: list[int], kind: str, data: bytes) -> None:
        if kind not in TYPES or len(data) != prod(shape) * TYPES[kind].itemsize:
            raise ValueError(f"an array of {kind} {shape} in {len(data)} bytes")
        self.shape, self.kind, self.data = list(shape), kind, data

    def tensor(self) -> Tensor:
        """The numbers."""
        if not self.data:
            return torch.empty(self.shape, dtype=TYPES[self.kind])
        return torch.frombuffer(bytearray(self.data), dtype=TYPES[self.kind]).view(self.shape)


def opened(file: Path, unwrap: tuple[str, ...] = ()) -> Tensors:
    """The tensors of a tree by their paths in it, "encoder/Conv_0/kernel"; UserError where the file is none.

    unwrap: keys under which the parameters lie; the first one that is there leads to them.
    """
    if file.suffix == ".npz":
        return _archive(file, unwrap)
    tree = _unpacked(file)
    if not isinstance(tree, Mapping):
        raise UserError(f"{file} holds a {type(tree).__name__}, no tree of arrays; it is another model's")
    arrays = _unwrapped(dict(_leaves(tree)), unwrap)
    return Tensors({name: array.shape for name, array in arrays.items()}, lambda name: arrays[name].tensor())


def _unpacked(file: Path) -> Any:
    try:
        import msgpack
    except ImportError as error:
        raise UserError(
            f"{file.name} is a tree of flax, which needs the library msgpack to be read; "
            "pip install -c constraints.txt -e '.[flax]'"
        ) from error

    def array(code: int, data: bytes) -> Packed | None:
        return Packed(*msgpack.unpackb(data)) if code in (ARRAY, SCALAR) else None

    try:
        return msgpack.unpackb(file.read_bytes(), ext_hook=array, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise UserError(
            f"{file} is no tree of flax, or is damaged or truncated ({words_of(error)}); fetch it again"
        ) from error


def _leaves(tree: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Packed]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{key}/")
        elif isinstance(value, Packed):
            yield f"{before}{key}", value


def _archive(file: Path, unwrap: tuple[str, ...]) -> Tensors:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (ValueError, TypeError, OSError, EOFError, BadZipFile) as error:
        raise UserError(f"{file} is no archive of arrays, or is damaged ({words_of(error)}); fetch it again") from error
    arrays = _unwrapped(arrays, unwrap)
    return Tensors({name: list(array.shape) for name, array in arrays.items()}, arrays.__getitem__)


def _unwrapped(arrays: dict[str, Array], unwrap: tuple[str, ...]) -> dict[str, Array]:
    """Those below the first of the keys that there is, by their paths from there; all where there is none."""
    for key in unwrap:
        below = f"{key}/"
        if inside := {name.removeprefix(below): each for name, each in arrays.items() if name.startswith(below)}:
            return inside
    return arrays
