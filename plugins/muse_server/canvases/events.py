"""What a session tells its listeners: numbered, kept for those who come back, and never more than they can read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any

KEPT = 200
"""Events that a session keeps for those who were away."""


@dataclass(frozen=True)
class Event:
    """Something that happened: `name` and `data` are as section "events" of docs/studio.md has them.

    number: rises with each event of a session, also over restarts.
    """

    number: int
    name: str
    data: dict[str, Any]


class Events:
    """The events of one session, on the event loop alone.

    What a newer event makes needless is not kept: a slow reader gets the newest step of a drawing and the newest state,
    and no queue grows.
    """

    def __init__(self) -> None:
        self._kept: list[Event] = []
        self._number = time.time_ns() // 1_000_000  # so that numbers of before a restart are never those of others
        self._lost = self._number  # the last one that nobody can be told any more
        self._more: set[asyncio.Event] = set()
        self._closed = False

    @property
    def listeners(self) -> int:
        """How many read."""
        return len(self._more)

    @property
    def number(self) -> int:
        """The newest event's."""
        return self._number

    def publish(self, name: str, data: dict[str, Any]) -> None:
        """Tell all who listen, now or when they come back."""
        self._number += 1
        event = Event(self._number, name, data)
        self._kept = [kept for each in self._kept if (kept := _left(each, event)) is not None] + [event]
        while len(self._kept) > KEPT:
            self._lost = self._kept.pop(0).number
        self._wake()

    async def listen(self, after: int | None, state: Callable[[], dict[str, Any]]) -> AsyncGenerator[Event]:
        """The events after that number, and all to come; closing this takes the listener away.

        after: the last one that was read; where that is None, or too old, `state` is told first, as it is then.
        """
        more = asyncio.Event()
        self._more.add(more)
        try:
            read = after
            if read is None or not self._lost <= read <= self._number:
                read = self._number
                yield Event(read, "state", state())
            while not self._closed:
                more.clear()
                while (event := self._next(read)) is not None:
                    read = event.number
                    yield event
                await more.wait()
        finally:
            self._more.discard(more)

    def close(self) -> None:
        """End all listening."""
        self._closed = True
        self._wake()

    def _next(self, read: int) -> Event | None:
        """The oldest event that is kept after a number."""
        return next((each for each in self._kept if each.number > read), None)

    def _wake(self) -> None:
        for each in self._more:
            each.set()


def _left(old: Event, new: Event) -> Event | None:
    """What is worth keeping of an event once a newer one is there; None for nothing."""
    if new.name in ("notice", "staged"):
        return old
    if old.name in ("step", "waiting"):  # a session has one drawing at a time
        return None
    state = new.data if new.name == "state" else new.data.get("state")
    if state is None:
        return old
    if old.name == "state" or (old.name == "staged" and old.data["job"] != state["staged_job"]):
        return None
    return replace(old, data=old.data | {"state": state}) if old.name == "done" else old
