"""How a run is asked to stop: Ctrl-C, or the SIGTERM of a machine that is taken away."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from muse_studio.errors import Terminated
from muse_studio.runtime import launch
from muse_studio.training.distributed import World


@dataclass(frozen=True)
class Stop:
    """A wish to stop, and which signal brought it."""

    terminated: bool
    speaks: bool

    def end(self, name: str, done: int) -> None:
        """Raises KeyboardInterrupt, as Terminated where it was SIGTERM, after a line that says how to go on."""
        if self.speaks:
            print(f"{name}: stopped at step {done}; the same command goes on from there", file=sys.stderr)
        raise Terminated if self.terminated else KeyboardInterrupt


class _Woken(BaseException):
    """A signal came while a batch was waited for; no `except Exception` of a data set is to take it for its own."""


class Signals:
    """The signals that came to this process while it trains, and whether the run is to stop for them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._heard: list[int] = []
        self._waiting = False

    def wait(self, batches: Iterator[Any]) -> Any:
        """The next batch; None, and at once, where a signal came before it did: then `ask` says to stop."""
        try:
            try:
                self._waiting = True
                return None if self._heard else next(batches)
            finally:
                self._waiting = False
        except _Woken:
            return None

    def ask(self) -> Stop | None:
        """Whether to stop: yes in every process of the world, where any of them was signalled.

        All of them ask, and wait for each other.
        """
        world, heard = self._world, self._heard
        interrupted, terminated = world.any(signal.SIGINT in heard), world.any(signal.SIGTERM in heard)
        return Stop(terminated, world.is_main) if interrupted or terminated else None

    def hear(self, number: int) -> None:
        """Take note of a signal, and leave the wait for a batch, if that is what goes on."""
        self._heard.append(number)
        if self._waiting:
            self._waiting = False  # what is closed on the way out is not to be left half closed
            raise _Woken


@contextmanager
def stopping(world: World) -> Iterator[Signals]:
    """Within it Ctrl-C and SIGTERM are noted, for the run to end in good order.

    A second Ctrl-C stops a process that is alone at once. Of those that torchrun started it does not: a terminal
    signals every process, and torchrun passes the same signal on. A second SIGTERM asks for nothing more.
    """
    signals = Signals(world)
    if threading.current_thread() is not threading.main_thread():  # only the main thread may hear signals
        yield signals
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(number: int, frame: Any) -> None:
        if number == signal.SIGINT and world.size == 1 and not launch.by_torchrun():
            signal.signal(number, before[number])
        signals.hear(number)

    for number in before:
        signal.signal(number, hear)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_later() -> Iterator[None]:
    """Holds Ctrl-C and SIGTERM back, from the processes that are started within it too: until they ignore them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(worker: int) -> None:
    """For a loader's worker: what a terminal or a cluster sends to all processes is the parent's to answer.

    The worker keeps reading, so that the step can be finished. What the parent itself sends ends it, as torch's loader
    does with a worker that hangs. Where the system does not tell who sends, as macOS, SIGTERM is left as it was.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _told
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # a handler would not hear who sent it
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    elif hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # which `signals_later` held back


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As Python tells of an exception, but for a parent that no longer listens: that is no fault of the worker's."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _end_with(parent: int) -> None:
    """End this process at once where its parent sends SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
