"""Weights as safetensors, from any address: a path, package://module/file, hf://, s3://, gs://, https://."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.files import file_name, path_of, replacing, within

SETTINGS = "muse_settings"
"""The metadata key under which a weights file says, as JSON, how its part was set."""
TEXTS = ("prompt", "prompts", "negative")
"""Settings that are no paths, whatever they begin with."""


def local(address: str) -> Path:
    """A file on this machine that holds what `address` names, downloaded into the cache where it is remote.

    `#sha256=<hex>` behind the address has the content checked. Raises UserError where nothing is there.
    """
    address, _, wanted = address.partition("#sha256=")
    if address.startswith("package://"):
        path = _in_package(address)
    elif "://" in address:
        path = _download(address)
    else:
        path = path_of(address)
    if not path.is_file():
        raise UserError(
            f"no weights at {address}: {path} is not a file; give the address of a safetensors file, or null for none"
        )
    if wanted:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted:
            raise UserError(
                f"{path} has sha256 {found}, not {wanted}: it is damaged or another file; delete it and fetch it again"
            )
    return path


HASHED = 2**28
"""Bytes up to which weights are hashed to be told apart: a fifth of a second or less, once in a process."""


@cache
def checksum(address: str) -> str | None:
    """The sha256 of what an address names, None where that is not cheaply known; nothing is fetched for it."""
    plain, _, said = address.partition("#sha256=")
    if said:
        return said
    try:
        remote = "://" in plain and not plain.startswith("package://")
        path = _kept(plain) if remote else local(plain)
        if path.stat().st_size > HASHED:
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (UserError, OSError, ValueError):  # it is not there
        return None


def _in_package(address: str) -> Path:
    package, _, name = address.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"no package {package!r} is installed, which {address} names")
    return within(Path(spec.submodule_search_locations[0]), name, address)


def _download(address: str) -> Path:
    from muse_studio.runtime.fetching import fetch

    return fetch(address, _kept(address))


def _kept(address: str) -> Path:
    """Where the cache folder has what a remote address names."""
    from muse_studio.runtime.fetching import cache_folder

    folder = cache_folder() / "weights" / hashlib.sha256(address.encode()).hexdigest()[:16]
    return folder / file_name(_without_query(address).rsplit("/", 1)[-1], address)


def _without_query(address: str) -> str:
    """An address without what is asked of its server, such as a signature, which no file need be called by."""
    return address.partition("?")[0] if address.startswith(("http://", "https://")) else address


def header(path: Path) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Shapes by tensor name, and the metadata, of a safetensors file; reads no tensor and needs no torch.

    Raises UserError where the file is no whole safetensors file.
    """
    with path.open("rb") as file:
        return header_of(file, path.stat().st_size, path)


def header_of(file: BinaryIO, size: int, name: object) -> tuple[dict[str, list[int]], dict[str, str]]:
    """As `header`, of an open file of `size` bytes, wherever it lies; `name` is what errors call it."""
    broken = UserError(
        f"{name} is not a whole safetensors file (truncated or damaged, or another format); fetch it again"
    )
    length = struct.unpack("<Q", start)[0] if len(start := file.read(8)) == 8 else size
    if length > size - 8:
        raise broken
    try:
        entries = json.loads(file.read(length))
        metadata = dict(entries.pop("__metadata__", {}))
        shapes = {name: list(entry["shape"]) for name, entry in entries.items()}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise broken from error
    if 8 + length + end != size:
        raise broken
    return shapes, metadata


def load(module: Any, address: str, only: tuple[str, ...] = ("",)) -> None:
    """Fill a torch module from a safetensors file, strictly; halves are widened to the module's own type.

    only: what the names of the tensors begin with that are compared and filled, ("encoder.", "pre."); by default all.
    A module on the meta device is only compared. Raises UserError where names or shapes differ, saying how the file's
    part was set, or with which command it can be converted, and where the file is not whole.
    """
    if message := difference(module, address, only):
        from muse_studio.runtime.former import refuse_former

        refuse_former(module, address, *compared(module, address, only))
        raise UserError(f"{address} does not fit here: {message}")
    own = module.state_dict()
    if any(tensor.is_meta for tensor in own.values()):
        return
    path = local(address)
    for name in own:
        if name.startswith(only):
            own[name].copy_(tensor(path, name))  # one by one: the file's own never all take memory beside the module's


def tensor(path: Path, name: str) -> Any:
    """One tensor of a safetensors file, which is mapped for as long as the tensor lives; UserError as `read`."""
    from safetensors import safe_open

    with _damage_told(path), safe_open(path, "pt") as file:
        return file.get_tensor(name)


def read(address: str, only: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """The tensors of a safetensors file whose names begin so, by name, of the file's own types.

    Raises UserError where the file is not whole.
    """
    from safetensors import safe_open

    path = local(address)
    names, _ = header(path)
    with _damage_told(path), safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in names if name.startswith(only)}


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """UserError for what the header alone does not show, such as a type that there is not."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({words_of(error)}); fetch it again") from error


def settings(address: str) -> dict[str, Any]:
    """How a file's part was set, as its metadata says; empty where it doesn't.

    Raises UserError where the file is missing or not whole.
    """
    try:
        found = json.loads(header(local(address))[1].get(SETTINGS, "{}"))
    except ValueError:  # another program's, which means something else by it
        return {}
    return found if isinstance(found, dict) else {}


def difference(module: Any, address: str, only: tuple[str, ...] = ("",)) -> str:
    """How a file's tensors whose names begin so differ from a module's, in name or shape, and how its part was set.

    Empty where they don't differ. Raises UserError where the file is missing or not whole.
    """
    found, wanted = compared(module, address, only)
    return "" if found == wanted else _difference(wanted, found) + _settings(header(local(address))[1])


def compared(
    module: Any, address: str, only: tuple[str, ...] = ("",)
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """The shapes of a file's tensors whose names begin so, and of a module's, by name; UserError as `difference`."""
    found = {name: shape for name, shape in header(local(address))[0].items() if name.startswith(only)}
    wanted = {name: list(tensor.shape) for name, tensor in module.state_dict().items() if name.startswith(only)}
    return found, wanted


def _difference(wanted: Mapping[str, list[int]], found: Mapping[str, list[int]]) -> str:
    other = [f"{n} is {found[n]}, not {wanted[n]}" for n in wanted if n in found and found[n] != wanted[n]]
    missing = [f"{n} is missing" for n in wanted if n not in found]
    unused = [f"{n} is not asked for" for n in found if n not in wanted]
    shown = (other + missing + unused)[:3]
    return "; ".join(shown) + f" ({len(other) + len(missing) + len(unused)} differences of {len(wanted)} tensors)"


def _settings(metadata: Mapping[str, str]) -> str:
    return f". It was written for {metadata[SETTINGS]}" if SETTINGS in metadata else ""


def save(tensors: Mapping[str, Any], path: Path, settings: Mapping[str, Any], **metadata: str) -> None:
    """Write tensors and how their part was set, aside first and then renamed, so that no half file is ever seen.

    Raises UserError where the file can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with replacing(path) as aside:
            aside.touch()
            mode = aside.stat().st_mode
            save_file(kept, aside, {SETTINGS: json.dumps(settings), "format": "pt", **metadata})
            _order(aside)
            aside.chmod(mode)  # safetensors makes files that their owner alone may read, whatever the umask says
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} could not be written: {words_of(error)}; make room, or choose another folder"
        ) from error


def _order(path: Path) -> None:
    """Put a file's metadata in the order of its names: safetensors has another one each time it writes."""
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
        head = {"__metadata__": dict(sorted(entries.pop("__metadata__").items())), **entries}
        text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # else it is spelled in a way that is not known here, and stays
            file.seek(8)
            file.write(text.ljust(length))


def portable(told: Any) -> Any:
    """What metadata tell, with paths of this machine cut to their last part: nobody else has them, nor need know them.

    So equal weights are equal files, wherever they were made.
    """
    if isinstance(told, Mapping):
        return {key: each if key in TEXTS else portable(each) for key, each in told.items()}
    if isinstance(told, list | tuple):
        return [portable(each) for each in told]
    if not isinstance(told, str):
        return told
    path = told.removeprefix("file://")
    return Path(path).name if path.startswith("~") or os.path.isabs(path) else told
