"""Gives back memory that drawings have left free: the C library keeps it, in pieces, so that a server would grow."""

from __future__ import annotations

import ctypes
import sys
import time

EVERY = 5.0
"""Seconds between two times while there is work, as one takes some milliseconds."""
M_ARENA_MAX = -8
"""glibc's number for how many arenas `malloc` may have (malloc.h)."""


def share_arena() -> None:
    """Have all threads take their memory from one place, where the C library is glibc.

    A server answers in dozens of threads, and each would keep pieces of its own, which nobody else can use.
    """
    if sys.platform == "linux" and (settle := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        settle(M_ARENA_MAX, 1)


class Tidy:
    """Has glibc's `malloc_trim` give back what is free, where there is that: now and then, and when all is done."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self._last, self._left = time.monotonic(), False

    def __call__(self) -> None:
        """After each job: give back, if it is time."""
        self._left = True
        if time.monotonic() - self._last >= EVERY:
            self.rest()

    def rest(self) -> None:
        """Give back what jobs left since the last time."""
        if self._trim is not None and self._left:
            self._trim(0)  # without the interpreter's lock: others go on meanwhile
            self._last, self._left = time.monotonic(), False
