"""Tells when a machine is what an exception is about: no memory, no room on a disk, no leave to write, no compiler."""

from __future__ import annotations

import errno
import re

_MEMORY = "choose smaller sizes, a smaller batch (in training, or more fit.accumulate), or fewer steps"
_ROOM = "make room, or choose another disk"
_LEAVE = "choose a place that can be written"
_CURES = {
    errno.ENOMEM: _MEMORY,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _LEAVE,
    errno.EPERM: _LEAVE,
    errno.EROFS: _LEAVE,
}
_NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|size calculation overflowed|overflow when unpacking", re.I
)
_NO_COMPILER = re.compile(r"No working C\+\+ compiler|Cannot find a working triton", re.I)


def lacks_memory(error: Exception) -> bool:
    """Whether an exception says that the memory does not suffice, a device's or the machine's."""
    told = isinstance(error, RuntimeError | TypeError) and _NO_MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(told)


def refusal(error: Exception) -> str | None:
    """What the machine refuses, and the cure; None where an exception is about anything else.

    Lack of memory is told by the text too: on a CPU torch raises a plain RuntimeError, and a TypeError of sizes that no
    machine could hold.
    """
    if lacks_memory(error):
        asked = re.search(r"allocate ([\d.]+ \w+)", str(error))
        return f"there is not enough memory{f' for {asked[1]} at once' if asked else ''}; {_MEMORY}"
    if isinstance(error, RuntimeError) and _NO_COMPILER.search(str(error)):
        return "compiling finds no compiler that works: install g++ (for a GPU triton), or set compile to false"
    if isinstance(error, OSError) and error.errno in _CURES:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror}; {_CURES[error.errno]}"
    return None
