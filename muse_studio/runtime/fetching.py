"""Addresses that are opened, and remote files, copied to the cache folder once.

A copy that broke off is gone on with, not begun again.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec

from muse_studio.errors import UserError
from muse_studio.runtime.files import open_folder, path_of, temporary_name
from muse_studio.runtime.launch import ask_to_fetch, trusted

CACHE = "MUSE_CACHE"
"""The environment variable that names the folder for downloads and rendered data."""
ABANDONED = 60
"""Seconds in which a copy that goes on has grown."""

HERE = ("file", "local", "memory")
REMOTE = ("http", "https", "s3", "s3a", "gs", "gcs", "hf", "abfs", "abfss", "az")
"""Protocols that give the bytes of an address and do no more.

fsspec has others, which run code, fill in templates, open one address within another, or log in to machines: those are
for addresses that are trusted.
"""


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path within. Every address is opened by this function, or `fetch`.

    UserError where its protocol is none of those above, or it has one address within another (a::b), and strangers are
    not trusted. Else what fsspec raises: ValueError for a protocol that it does not know, ImportError where the library
    of one is missing.
    """
    _check(address)
    return fsspec.core.url_to_fs(address if _protocol(address) else str(path_of(address)))


def _check(address: str) -> None:
    """UserError where an address may not be opened, NotFetched where nothing may be fetched now."""
    protocol = _protocol(address)
    if not trusted():
        if protocol not in ("", *HERE, *REMOTE) and protocol in fsspec.available_protocols():
            raise UserError(
                f"{address} has the protocol {protocol!r}, which does more than give a file; give a path, or one of "
                f"{', '.join(f'{each}://' for each in REMOTE)}, or trust the address with --trust"
            )
        if "::" in address:
            raise UserError(
                f"{address} has one address within another (::), which may run or fill in what it holds; give the file "
                "itself, or trust the address with --trust"
            )
    if protocol not in ("", *HERE):
        ask_to_fetch(address)


def _protocol(address: str) -> str:
    """What stands before ://, or before the colon of data:, empty for a path."""
    if address.startswith("data:"):
        return "data"
    return address.partition("://")[0] if "://" in address else ""


def cache_folder() -> Path:
    """Where downloads and rendered data are kept: MUSE_CACHE, else ~/.cache/muse_studio."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "muse_studio")


def fetch(address: str, path: Path) -> Path:
    """Copy what a remote address names to a file of the cache folder, unless it is there; UserError where it can't be.

    Returns the file. It appears when all of it is there; what a copy that broke off has is kept beside it, for the next
    one to go on from.
    """
    if path.is_file():
        return path
    _check(address)
    open_folder(path.parent, CACHE)
    aside = temporary_name(path)
    try:
        _adopt(path, aside)
        with fsspec.open(address, "rb") as source:
            begun = _seek(source, aside)
            with aside.open("ab" if begun else "wb") as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
            size = getattr(source, "size", None)
        if isinstance(size, int) and size != aside.stat().st_size:
            found = aside.stat().st_size
            aside.unlink()
            raise EOFError(f"it has {size} bytes, and {found} came; it has changed meanwhile, so run this again")
        os.replace(aside, path)
    except Exception as error:  # each file system of fsspec raises what its own library has, much of it no OSError
        with suppress(OSError):
            if not aside.stat().st_size:
                aside.unlink()
        raise UserError(
            f"{address} could not be fetched: {error or type(error).__name__}; check the address and the network, "
            "or give a file of this machine"
        ) from error
    return path


def _adopt(path: Path, aside: Path) -> None:
    """Make what another process has left of `path`, and no longer adds to, this one's."""
    for other in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):  # it was renamed meanwhile
            if other != aside and time.time() - other.stat().st_mtime > ABANDONED:
                os.replace(other, aside)


def _seek(source: Any, aside: Path) -> bool:
    """Whether a source could be put to where `aside` ends, if that is not at its very beginning."""
    begun = aside.stat().st_size if aside.exists() else 0
    try:
        return bool(begun) and source.seek(begun) == begun
    except Exception:  # a stream, which each file system refuses to put elsewhere in its own way
        return False
