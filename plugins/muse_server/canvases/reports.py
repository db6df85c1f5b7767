"""From the model's thread to those who listen: what goes on in a session, and what the gallery gets of it."""

from __future__ import annotations

import asyncio
from typing import Any

from muse_server.canvases import moments
from muse_server.canvases.sessions import Session
from muse_server.canvases.shots import Shot
from muse_server.engine import Engine, Job
from muse_server.gallery import Gallery
from muse_server.work.failures import failure
from muse_studio.errors import UserError


class Reports:
    """Tells sessions' listeners of their jobs. What has no other note is for the event loop, which is `loop`'s."""

    def __init__(self, engine: Engine, gallery: Gallery) -> None:
        self._engine, self._gallery = engine, gallery
        self._drawing: dict[str, Session] = {}
        self._moving = False
        self._ending: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Hear of the engine from now on, on the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._engine.moved = self.moved

    def tell(self, session: Session, name: str, data: dict[str, Any]) -> None:
        """An event, by any thread."""
        self._loop.call_soon_threadsafe(session.events.publish, name, data)

    def moved(self) -> None:
        """The queue moved, by any thread: all that wait are told their places."""
        self._loop.call_soon_threadsafe(self._move)

    def begin(self, session: Session, job: Job) -> None:
        """A session's drawing waits from now on."""
        self._drawing[job.id] = session

    def ended(self, job: Job) -> None:
        """A session's drawing has ended, by the model's thread."""
        self._loop.call_soon_threadsafe(self._end, job)

    async def all_ended(self) -> None:
        """Wait until all that has ended is told."""
        await asyncio.sleep(0)  # what the thread said last is heard
        await asyncio.gather(*self._ending)

    def state(self, session: Session) -> None:
        """Tell a session's state, which changed at once."""
        session.events.publish("state", session.state())

    async def hang(self, session: Session, shot: Shot) -> None:
        """Put what was drawn into the gallery; where that fails, the session hears of it."""
        png = await asyncio.to_thread(moments.png, shot.image, shot.provenance)
        session.keep(shot.canvas.now, png)
        try:
            await asyncio.to_thread(self._gallery.add, png, shot.seed, shot.prompt, session=session.id)
        except UserError as error:
            session.events.publish("notice", {"text": failure(error)["message"]})

    def _move(self) -> None:
        """Tell the places, once for all that moved until then."""
        if not self._moving:
            self._moving = True
            self._loop.call_soon(self._tell_places)

    def _tell_places(self) -> None:
        self._moving = False
        queue = self._engine.queue()
        for place, job in enumerate(queue["waiting"], 1):
            if (session := self._drawing.get(job)) is not None:
                mean = queue["mean_seconds"]
                seconds = None if mean is None else round(mean * place, 1)
                session.events.publish("waiting", {"job": job, "place": place, "seconds": seconds})

    def _end(self, job: Job) -> None:
        task = asyncio.ensure_future(self._finish(job))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _finish(self, job: Job) -> None:
        session = self._drawing.pop(job.id)
        if not session.staged and session.staged_job == job.id:
            session.discard()  # it was cancelled before the first one was drawn
        if job.state == "done":
            if session.staged_job != job.id:
                await self.hang(session, session.shot)
            session.events.publish("done", {"job": job.id, "state": session.state()})
        elif job.state == "cancelled":
            session.events.publish("cancelled", {"job": job.id})
        else:
            session.events.publish("failed", {"job": job.id, **failure(job.result.exception())})
