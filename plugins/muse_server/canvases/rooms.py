"""Which sessions are in memory: those in use, made or loaded one at a time, and the oldest idle one goes for a new."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

from muse_server.canvases.acting import Acting
from muse_server.canvases.sessions import Session
from muse_server.canvases.store import Store
from muse_server.refusals import Full

Quickly: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Does something in the model's thread, before all drawing, and gives what came of it."""
RETRY = 10
"""Seconds after which somebody may have left."""


class Rooms:
    """The sessions in memory, `most` of them; on the event loop alone."""

    def __init__(self, most: int, quickly: Quickly, acting: Acting, store: Store) -> None:
        self._most, self._quickly, self._acting, self._store = most, quickly, acting, store
        self._here: OrderedDict[str, Session] = OrderedDict()
        self._coming: dict[str, asyncio.Future[Session]] = {}
        self._making = 0

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._here.values()))

    def __len__(self) -> int:
        return len(self._here)

    async def add(self, make: Callable[[], Session]) -> Session:
        """A new session, made in the model's thread; Full where all that are in memory are in use."""
        self._making += 1
        try:
            await self._make_room()
            session: Session = await self._quickly(make)
            self._here[session.id] = session
            return session
        finally:
            self._making -= 1

    async def find(self, id: str) -> Session:
        """A session, from disk where it is not here; NotFound where there is none, Full as `add`."""
        self._store.path(id)  # or it is no id at all
        if id in self._here:
            self._here.move_to_end(id)
            return self._here[id]
        await asyncio.to_thread(self._store.check, id)  # what is not there takes no turn of the model's thread
        if id not in self._coming:
            self._coming[id] = asyncio.ensure_future(self.add(lambda: self._acting.loaded(id)))
            self._coming[id].add_done_callback(lambda done: self._coming.pop(id, None))
        return await asyncio.shield(self._coming[id])

    async def _make_room(self) -> None:
        """Save and drop the oldest idle session where there are too many."""
        while len(self) + self._making > self._most:
            idle = next((each for each in self if each.idle), None)
            if idle is None:
                raise Full(f"{len(self)} canvases are in use, which is the most; close one", RETRY)
            if self._store.has(idle.id):
                del self._here[idle.id]
            else:  # nothing was done on it yet; and who knows what will be, until it is saved
                await self._quickly(partial(self._store.save, idle.id, idle.shot.canvas))
