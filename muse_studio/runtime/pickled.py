"""Tensors out of files of torch.save, which may hold code: none of it is run, imported or even looked up."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from muse_studio.errors import UserError, words_of
from muse_studio.runtime import memory
from muse_studio.runtime.inert import StandIn, Storage, Stored, followed

MAGIC = 0x1950A86A20F9469CFC6C
"""What a file that torch wrote before it wrote archives begins with, as a pickle of its own."""
ARCHIVE = b"PK\3\4"
"""What an archive begins with."""
LARGEST = 2**28
"""Bytes of an archive's pickle, which names tensors and holds none; a thousand of them take some hundred kilobytes."""
LOCAL = 30
"""Bytes of what stands before a file's name in an archive."""
BROKEN = (
    *(ValueError, LookupError, TypeError, OverflowError, EOFError, OSError, RuntimeError),
    *(struct.error, zipfile.BadZipFile),
)
"""What is raised on the way through a damaged file."""


@dataclass(frozen=True)
class TorchFile:
    """A file of torch.save. held: what it describes. places: where each storage's bytes begin, and how many there are.

    Tensors are `Stored` in it, and read one by one; what would need code is a `StandIn`.
    """

    path: Path
    held: Any
    places: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, path: Path) -> TorchFile:
        """Open a file; UserError where it is damaged, or none of torch's."""
        try:
            with path.open("rb") as file:
                if file.read(len(ARCHIVE)) == ARCHIVE:
                    return cls(path, *_archive(file, path.stat().st_size))
                return cls(path, *_stream(file))
        except BROKEN as error:
            raise _damaged(path, words_of(error)) from error

    def read(self, tensor: Stored) -> Tensor:
        """The numbers; UserError where the file ends before they do."""
        first, last = tensor.span
        start, length = self.places.get(tensor.storage.key, (0, -1))
        if last > length or _bytes(tensor) > self.path.stat().st_size:
            raise _damaged(self.path, f"it lacks numbers of storage {tensor.storage.key!r:.40}")
        if first == last:
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        with self.path.open("rb") as file:
            file.seek(start + first)
            data = bytearray(file.read(last - first))
        return torch.frombuffer(data, dtype=tensor.dtype).as_strided(tensor.shape, tensor.stride)


def unpickled(file: Path, unwrap: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors of a file of torch.save by name; UserError where it is damaged, or holds none by name.

    unwrap: keys under which training keeps a model; the first one that is there leads to its tensors.
    """
    memory.check(file.stat().st_size, f"{file}, which is read at once, takes", "find it as safetensors")
    opened = TorchFile.of(file)
    table = table_of(opened.held)
    if table is None:
        raise UserError(f"{file} holds a {kind_of(opened.held)}, not tensors by name; it is another model's")
    inside = (table_of(table.get(key)) for key in unwrap)
    table = next((each for each in inside if each is not None), table)
    return {name: opened.read(value) for name, value in table.items() if isinstance(value, Stored)}


def table_of(value: Any) -> dict[Any, Any] | None:
    """What a dict holds, or a stand-in that is filled as one; None where it is neither."""
    if isinstance(value, StandIn) and value.items:
        return value.items
    return value if isinstance(value, dict) else None


def kind_of(value: Any) -> str:
    """What something is that a file holds, in a word."""
    if isinstance(value, StandIn):
        return f"{value.name}, which nothing here makes"
    return "Tensor" if isinstance(value, Stored) else type(value).__name__


def _bytes(tensor: Stored) -> int:
    """What it takes in memory: far more than in the file, where one number stands for many."""
    count = tensor.dtype.itemsize
    for size in tensor.shape:
        count *= size
    return count


def _archive(file: BinaryIO, size: int) -> tuple[Any, dict[str, tuple[int, int]]]:
    """What torch has written since 1.6: an archive that is not packed, of one pickle and a file for each storage."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    root = next((name.rpartition("/")[0] for name in entries if name.endswith("/data.pkl")), None)
    if root is None:
        raise ValueError("it is an archive without a data.pkl")
    places = {name: _place(file, entry, size) for name, entry in entries.items() if name.startswith(f"{root}/")}
    if _content(file, places.get(f"{root}/byteorder", (0, 0)), 16) not in (b"", b"little"):
        raise ValueError("its numbers are big-endian")
    described = _content(file, places[f"{root}/data.pkl"], LARGEST + 1)
    if len(described) > LARGEST:
        raise ValueError(f"what it says of its tensors has more than {memory.size(LARGEST)}")
    held = followed(io.BytesIO(described))
    before = f"{root}/data/"
    return held, {name.removeprefix(before): place for name, place in places.items() if name.startswith(before)}


def _place(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """Where the bytes of an archive's file lie. Sums are not checked: torch may be told to write none."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise ValueError(f"{entry.filename[:80]!r} is packed, which torch does not do")
    file.seek(entry.header_offset)
    name, extra = struct.unpack("<HH", file.read(LOCAL)[-4:])
    start = entry.header_offset + LOCAL + name + extra
    if start + entry.file_size > size:
        raise EOFError("it is cut off")
    return start, entry.file_size


def _content(file: BinaryIO, place: tuple[int, int], most: int) -> bytes:
    file.seek(place[0])
    return file.read(min(place[1], most))


def _stream(file: BinaryIO) -> tuple[Any, dict[str, tuple[int, int]]]:
    """What torch wrote before 1.6: five pickles, and the storages behind them, each after its count of numbers."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        source: Any = whole  # it reads as a file does
        if followed(source) != MAGIC:
            raise ValueError("it does not begin as one")
        followed(source)  # the format's version, of which there has been one
        machine = followed(source)
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise ValueError("its numbers are big-endian")
        storages: dict[str, Storage] = {}
        held, keys = followed(source, storages), followed(source)
        sizes = {key: storage.dtype.itemsize for key, storage in storages.items()}
        places = {}
        for key in keys:
            (count,) = struct.unpack("<q", whole.read(8))
            if key not in sizes or count < 0 or whole.tell() + count * sizes[key] > len(whole):
                raise EOFError("it is cut off")
            places[key] = (whole.tell(), count * sizes[key])
            whole.seek(count * sizes[key], 1)
        return held, places


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is not read: it is damaged, truncated, or no file of torch's ({why[:200]}); fetch it again"
    )
