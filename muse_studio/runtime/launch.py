"""What is told to a process: by torchrun, which it is; by its user, whether strangers are trusted, and when to stop.

Nothing here imports torch at first, as the command line needs it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from muse_studio.errors import NotFetched

TRUST = "MUSE_TRUST"
"""The environment variable that stands for --trust where it is 1; so the processes that load data hear of it too."""

PARENT = os.getppid()
"""The process that started this one: torchrun, where `by_torchrun`."""


def trusted() -> bool:
    """Whether a picture's recipe is obeyed in all that it wants, and an address opened by any protocol."""
    return os.environ.get(TRUST) == "1"


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Within it strangers are trusted, where `trust` says so; else all stays as it is."""
    before = os.environ.get(TRUST)
    if trust:
        os.environ[TRUST] = "1"
    try:
        yield
    finally:
        if trust:
            os.environ.pop(TRUST)
            os.environ |= {} if before is None else {TRUST: before}


@contextmanager
def interrupted_later() -> Iterator[None]:
    """Within it a Ctrl-C waits for the end; in the main thread, as no other hears of one."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda *of: heard.append(of))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for each in heard[:1]:
            before(*each)


_NOTHING: ContextVar[bool] = ContextVar("muse_nothing_fetched", default=False)


@contextmanager
def fetching_nothing() -> Iterator[None]:
    """Within it nothing is asked for over the network, as `NotFetched` says; unless strangers are trusted."""
    token = _NOTHING.set(not trusted())
    try:
        yield
    finally:
        _NOTHING.reset(token)


def ask_to_fetch(address: str) -> None:
    """To be called before anything is asked for over the network: NotFetched where nothing may be."""
    if _NOTHING.get():
        raise NotFetched(f"{address} would be fetched; a check fetches nothing, unless --trust is given")


def processes() -> tuple[int, int]:
    """This process's rank, and how many there are: (0, 1) where torchrun did not start it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def by_torchrun() -> bool:
    """Whether torchrun started this process, be it the only one."""
    return "WORLD_SIZE" in os.environ


def is_main() -> bool:
    """Whether this process speaks for all."""
    return processes()[0] == 0


def first_to_report(text: str) -> bool:
    """Whether no other process has said this: all meet the same mistake, and one line of it is enough.

    Where the processes can't be asked, each says it.
    """
    rank, size = processes()
    if size == 1:
        return True
    import hashlib

    from torch import distributed

    key = f"muse_studio/said/{hashlib.sha256(text.encode()).hexdigest()}"
    try:
        store = distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            wait_for_workers=False,
            timeout=timedelta(seconds=5),
        )
        return store.compare_set(key, "", str(rank)).decode() == str(rank)
    except (KeyError, ValueError, distributed.DistError):
        return True
