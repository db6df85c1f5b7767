"""Paths as users write them, folders proven writable before anything costly, files that are whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from muse_studio.errors import UserError, words_of


def path_of(text: str) -> Path:
    """A path with its ~ for the home folder; unlike pathlib's own, it leaves the ~ of an unknown user as it is."""
    return Path(os.path.expanduser(text))


def unwritable(path: Path, error: OSError, cure: str) -> UserError:
    """What to raise where the disk refuses to write a path, from what it said."""
    return UserError(f"{path} can't be written: {error.strerror or words_of(error)}; {cure}")


def open_folder(folder: Path, setting: str) -> Path:
    """The folder, made where it is missing; UserError, naming the `setting` to change, where it can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise unwritable(folder, error, f"give another folder as {setting}") from error


def temporary_name(path: Path) -> Path:
    """The name beside `path` that this process writes to before it renames: hidden, and on the same file system."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def settle(path: Path) -> None:
    """Have the disk hold a file's content, or a folder's names, where the system can be asked to."""
    if os.name == "nt":  # it opens no folder, and writes through no handle that only reads
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network disks know no order of names
            raise
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file to, which takes its place at the end, and vanishes where that fails.

    The folder is made where it is missing. An OSError that names no file, as a full disk's, is given this one.
    """
    aside = temporary_name(path)
    try:
        with _renaming(aside, path):
            yield aside
    finally:
        with suppress(OSError):  # it was renamed, or there was no folder to write it to
            aside.unlink()


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` to write to, which takes its place at the end, and vanishes where that fails.

    OSError where `folder` is there by then and is not empty: nothing is overwritten. Else as `replacing`.
    """
    aside = temporary_name(folder)
    shutil.rmtree(aside, ignore_errors=True)  # of a process that had this one's number, and was killed
    try:
        with _renaming(aside, folder):
            aside.mkdir()
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _renaming(aside: Path, path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
        os.replace(aside, path)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
