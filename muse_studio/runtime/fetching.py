"""Addresses that are opened, and remote files, copied to the cache folder once.

A copy that broke off is gone on with, not begun again.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.files import is_own, leftovers, open_folder, path_of, temporary_name
from muse_studio.runtime.launch import ask_to_fetch, trusted

CACHE = "MUSE_CACHE"
"""The environment variable that names the folder for downloads and rendered data."""
ABANDONED = 60
"""Seconds in which a copy that goes on has grown."""
SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""How a file is opened that may be a link: not followed; and, on Windows, as bytes."""

HERE = ("file", "local", "memory")
REMOTE = ("http", "https", "s3", "s3a", "gs", "gcs", "hf", "abfs", "abfss", "az")
"""Protocols that give the bytes of an address and do no more.

fsspec has others, which run code, fill in templates, open one address within another, or log in to machines: those are
for addresses that are trusted.
"""

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Which extra of this package brings the file system of a protocol."""


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the path within. Every address is opened by this function, or `fetch`.

    UserError where its protocol is none of those above, or it has one address within another (a::b), and strangers are
    not trusted, or where the library of its protocol is missing. Else what fsspec raises, such as ValueError for a
    protocol that it does not know.
    """
    _check(address)
    return fsspec.core.url_to_fs(address if _protocol(address) else str(path_of(address)))


def exists(address: str) -> bool:
    """Whether something is at an address, as `present` says; else as of `file_system`."""
    return present(*file_system(address))


def present(system: Any, path: str) -> bool:
    """Whether a file system has something at a path; what keeps a server from answering is raised.

    fsspec's own `exists` takes that for "no" over http, as where the network is down. A status of 4xx is one: servers
    say 404 of what they don't have, and object stores 403.
    """
    found = bool(system.exists(path))
    if not found and _protocol(path) in ("http", "https"):
        try:
            system.info(path)
        except FileNotFoundError as error:
            cause = error.__cause__
            if cause is not None and not 400 <= getattr(cause, "status", 0) < 500:
                raise cause from None
    return found


def _check(address: str) -> None:
    """UserError where an address may not be opened, or can't be here; NotFetched where nothing may be fetched now."""
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
        try:
            if protocol in fsspec.available_protocols():
                fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            cure = f"pip install -c constraints.txt -e '.[{extra}]'" if extra else words_of(error)
            raise UserError(f"{address} needs a library that is not installed; {cure}") from error


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
            with _opened(aside) as target:
                if not _seek(source, target.tell()):
                    target.truncate(0)
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
    """Make what another process of this user has left of `path`, and no longer adds to, this one's."""
    for other in leftovers(path):
        with suppress(OSError):  # it was renamed meanwhile
            found = other.lstat()
            if other != aside and is_own(found) and time.time() - found.st_mtime > ABANDONED:
                os.replace(other, aside)


def _opened(aside: Path) -> BinaryIO:
    """The file itself, to be added to; a new one where none is there, or what is there is a link or another user's.

    Others may write to the cache folder, and know its names beforehand. What was opened is looked at, and not the name,
    by which something else may stand by then.
    """
    with suppress(OSError):
        file = os.fdopen(os.open(aside, os.O_RDWR | os.O_APPEND | SAFELY), "ab")
        if is_own(os.fstat(file.fileno())) and not aside.is_symlink():
            return file
        file.close()
    with suppress(FileNotFoundError):
        aside.unlink()
    return aside.open("xb")


def _seek(source: Any, begun: int) -> bool:
    """Whether a source could be put to that place, if that is not its very beginning."""
    try:
        return bool(begun) and source.seek(begun) == begun
    except Exception:  # a stream, which each file system refuses to put elsewhere in its own way
        return False
