"""Remote files, copied to the cache folder once; a copy that broke off is gone on with, not begun again."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.files import open_folder, temporary_name

CACHE = "MUSE_CACHE"
"""The environment variable that names the folder for downloads and rendered data."""
ABANDONED = 60
"""Seconds in which a copy that goes on has grown."""


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
            f"{address} could not be fetched: {words_of(error)}; check the address and the network, "
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
