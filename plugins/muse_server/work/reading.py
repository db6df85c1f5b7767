"""What the model's thread says, read on the event loop as it comes."""

from __future__ import annotations

import asyncio
from collections import deque

from muse_server.drawings import Advanced, Told


class Reading:
    """An async iterator of what `tell` was given, until `end`; made on the loop that reads it.

    Of steps, a slow reader gets the newest.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._told: deque[Told] = deque()
        self._ended = False
        self._more = asyncio.Event()

    def tell(self, each: Told) -> None:
        """One thing more, by any thread."""
        self._loop.call_soon_threadsafe(self._add, each)

    def end(self) -> None:
        """That was all, by any thread."""
        self._loop.call_soon_threadsafe(self._end)

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> Told:
        while not self._told:
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._told.popleft()

    def _add(self, each: Told) -> None:
        if isinstance(each, Advanced) and self._told and isinstance(self._told[-1], Advanced):
            self._told.pop()
        self._told.append(each)
        self._more.set()

    def _end(self) -> None:
        self._ended = True
        self._more.set()
