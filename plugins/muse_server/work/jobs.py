"""A piece of work for the model's thread, as all others see it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal

State = Literal["waiting", "drawing", "done", "failed", "cancelled"]


class Cancelled(Exception):
    """Somebody asked for the job to stop."""

    def __init__(self) -> None:
        super().__init__("it was cancelled")


class Job:
    """Work of an owner, done or to be done by the model's thread; `Engine.submit` makes it.

    quick: whether it may be done between the steps of another. failed: what went wrong, where something did. result:
    what the work gave, or its exception, `Cancelled` among them; who no longer waits for it does not stop it.
    """

    def __init__(
        self,
        owner: str,
        work: Callable[[Job], Any],
        ended: Callable[[Job], None] | None,
        quick: bool,
        between: Callable[[], None],
    ) -> None:
        self.id = f"j_{secrets.token_urlsafe(12)}"
        self.owner, self.work, self.ended, self.quick = owner, work, ended, quick
        self.state: State = "waiting"
        self.failed: str | None = None
        self.result: Future[Any] = Future()
        self.result.set_running_or_notify_cancel()
        self.stopping = False
        self._sealed = False
        self._lock = threading.Lock()
        self._between = between

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state not in ("waiting", "drawing")

    def check(self) -> None:
        """Between two steps of the work: let quick jobs be done, and raise Cancelled where a cancel was asked."""
        if not self.quick:
            self._between()
        if self.stopping:
            raise Cancelled

    def stop(self) -> bool:
        """Ask it to end; False where it was asked already, or where it is too late."""
        with self._lock:
            if self.stopping or self._sealed:
                return False
            self.stopping = True
            return True

    def seal(self) -> None:
        """From now on it can't be cancelled, as its end has begun; raises Cancelled where it was."""
        with self._lock:
            if self.stopping:
                raise Cancelled
            self._sealed = True
