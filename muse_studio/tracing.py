"""Says which hooks are called, of which plugin, with what and for how long, where MUSE_TRACE asks for it."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO

from muse_studio import launch
from muse_studio.errors import UserError

TRACE = "MUSE_TRACE"
"""The environment variable: 1 for standard error, or the path of a file, to whose end lines are added."""

_LONGEST = 60
"""Letters of one argument."""


class Trace:
    """Writes one line a call: seconds since it began, the plugin, the call, and the milliseconds that it took."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._began = stream, time.perf_counter()
        rank, size = launch.processes()
        self._who = f" rank {rank}" if size > 1 else ""

    def note(self, plugin: str, call: str, seconds: float) -> None:
        """One call of a plugin's, ended just now."""
        at = time.perf_counter() - self._began
        self._stream.write(f"trace{self._who} {at:.3f} s  {plugin}  {call}  {seconds * 1e3:.2f} ms\n")
        self._stream.flush()  # a run that dies shows how far it came


def wanted() -> Trace | None:
    """The trace that MUSE_TRACE asks for, or None; UserError where its file can't be written."""
    where = os.environ.get(TRACE, "")
    if where in ("", "0"):
        return None
    if where == "1":
        return Trace(sys.stderr)
    try:
        return Trace(open(where, "a", encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{TRACE} is {where!r}, which can't be written: {error.strerror}; give 1 or a file") from error


def short(value: Any) -> str:
    """A value in a few words: a tensor by its type and shape, as in "int64[1, 16, 16]", anything long cut off."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, dict):
        text = f"{{{', '.join(map(str, value))}}}"
    elif isinstance(value, str | int | float | list | tuple | None):
        text = repr(value)
    else:
        text = type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
