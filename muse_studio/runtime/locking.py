"""A folder that one run at a time may write to: a lock that ends with its process, however that ends."""

from __future__ import annotations

import json
import os
import socket
import sys
import warnings
import weakref
from pathlib import Path
from typing import BinaryIO

from muse_studio.errors import UserError, words_of

LOCK = ".lock"
"""In the folder, while it is locked; it says who holds the lock, and is no lock by being there."""

FAR = 2**30
"""The byte that Windows locks, far behind the text, which others may read."""


class FolderLock:
    """Holds a folder until `release`, or the end of this process; UserError, naming who holds it, where another does.

    The system keeps the lock, by the open file: a process that is killed leaves none behind, and one that this process
    forks, as a loader does, has no share in it. Where the disk can lock nothing there is a warning instead.
    """

    def __init__(self, folder: Path, setting: str) -> None:
        self.path = folder / LOCK
        self._file: BinaryIO | None = None
        while self._file is None:
            file = self.path.open("a+b")
            try:
                _lock(file)
            except BlockingIOError as error:
                file.close()
                raise UserError(
                    f"{folder} is being written by another run, {_holder(self.path)}; wait until it has ended, stop "
                    f"it, or give another folder as {setting}"
                ) from error
            except OSError as error:
                file.close()
                warnings.warn(
                    f"{folder} can't be locked ({error.strerror or words_of(error)}); start one run there", stacklevel=2
                )
                return
            if _same(file, self.path):  # else whoever had it has removed it meanwhile
                self._file = file
            else:
                file.close()
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        self._file.flush()
        _HELD.add(self)

    def release(self) -> None:
        """Let others have the folder."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if os.name != "nt":  # there nothing can be removed that is open
            self.path.unlink(missing_ok=True)
        file.close()

    def forget(self) -> None:
        """In a process that was forked: have no share in the lock."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _lock(file: BinaryIO) -> None:
    """BlockingIOError where another has it, another OSError where the disk can't lock."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
        finally:
            file.seek(0)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _same(file: BinaryIO, path: Path) -> bool:
    """Whether a path still names an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Who holds a lock, as its file says."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(said['pid'])} on {str(said['host'])!r}"
    except (OSError, ValueError, LookupError, TypeError):  # it is just being written
        return "which does not say who it is"
