"""Paths as users write them, folders proven writable before anything costly, files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from muse_studio.errors import UserError


def path_of(text: str) -> Path:
    """A path with its ~ for the home folder; unlike pathlib's own, it leaves the ~ of an unknown user as it is."""
    return Path(os.path.expanduser(text))


def unwritable(path: Path, error: OSError, cure: str) -> UserError:
    """What to raise where the disk refuses to write a path, from what it said."""
    return UserError(f"{path} can't be written: {error.strerror or error}; {cure}")


def open_folder(folder: Path, setting: str) -> Path:
    """The folder, made where it is missing; UserError, naming the `setting` to change, where it can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise unwritable(folder, error, f"give another folder as {setting}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which takes the place of `path` at the end, and vanishes where that fails.

    The folder is made where it is missing. An OSError that names no file, as a full disk's, is given this one.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # it was renamed, or there was no folder to write it to
            aside.unlink()
