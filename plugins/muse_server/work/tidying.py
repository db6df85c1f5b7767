"""Gives back memory that drawings have left free: the C library keeps it, in pieces, so that a server would grow."""

from __future__ import annotations

import ctypes
import sys
import time

EVERY = 5.0
"""Seconds between two times, as one takes some milliseconds."""


class Tidy:
    """Called after each job; now and then has glibc's `malloc_trim` give back what is free, where there is that."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Give back, if it is time."""
        if self._trim is not None and time.monotonic() - self._last >= EVERY:
            self._trim(0)  # without the interpreter's lock: others go on meanwhile
            self._last = time.monotonic()
