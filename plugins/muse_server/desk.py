"""The server's side of the model: sessions, what is done in them, and who hears of it; no torch on the event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from muse_server import settings
from muse_server.canvases import moments
from muse_server.canvases.acting import Acting, answers
from muse_server.canvases.actions import Action, read
from muse_server.canvases.events import Event
from muse_server.canvases.fields import number
from muse_server.canvases.files import read as read_canvas
from muse_server.canvases.pictures import Pictures, scaled
from muse_server.canvases.reports import Reports
from muse_server.canvases.rooms import Rooms
from muse_server.canvases.sessions import Session, Variant
from muse_server.canvases.shots import Shot, steps
from muse_server.canvases.store import Store
from muse_server.drawings import Drawing, Told
from muse_server.engine import Engine, Job
from muse_server.gallery import Gallery, new_id
from muse_server.refusals import Busy, NotFound
from muse_server.work import programs
from muse_server.work.failures import is_asked
from muse_server.work.reading import Reading
from muse_studio.sampling.arguments import LARGEST_SEED
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.model import Model

OURS = "desk"
"""The owner of the quick jobs."""
LARGEST_SCALE = 16
"""How many times larger a picture may be asked for."""


class Desk:
    """All sessions of a server, on one event loop.

    model: ready to draw; from `start` on it is the engine's thread's alone. gallery: takes a PNG of all that is drawn.
    folder: canvases are kept in `sessions` below it. sessions: so many are in memory, at most. apart: whether the
    engine gets a thread of its own at `start`; otherwise somebody calls its `run`. `previews` says whether pictures
    are shown before they are finished, which none is that a filter has yet to see. `lost` is set where the device is
    gone, so that nothing can be drawn any more.
    """

    def __init__(self, model: Model, gallery: Gallery, folder: Path, *, sessions: int = 64, apart: bool = True) -> None:
        self.model, self.gallery, self.engine = model, gallery, Engine(alive=partial(answers, model))
        self.previews = not is_asked(model.hook, "muse_picture")
        self.lost = asyncio.Event()
        self._apart = apart
        self._store = Store(folder / "sessions")
        self._reports = Reports(self.engine, gallery)
        self._acting = Acting(model, self._store, self.previews, self._reports.tell)
        self._rooms = Rooms(sessions, self._quickly, self._acting, self._store)
        self._pictures = Pictures()

    async def start(self) -> None:
        """Begin to work; UserError where the folder can't be written."""
        await asyncio.to_thread(self._store.open)
        self._reports.start()
        loop = asyncio.get_running_loop()
        self.engine.lost = lambda error: loop.call_soon_threadsafe(self.lost.set)
        if self._apart:
            self.engine.start()

    async def close(self) -> None:
        """Cancel what is drawn, and end all listening; each canvas was saved when it changed."""
        await asyncio.to_thread(self.engine.close)
        await self._reports.all_ended()
        for session in self._rooms:
            session.events.close()

    async def open(self, seed: int | None = None, picture: str | None = None, canvas: str | None = None) -> Session:
        """A new session: blank, or a copy of another one; with a dropped picture placed on it.

        seed: of the canvas. NotFound where there is no such picture or session, Full where too many are in use.
        """
        chosen = secrets.randbelow(2**32) if seed is None else number(seed, "seed", 0, LARGEST_SEED)
        placed = None if picture is None else self._pictures.find(picture)
        other = None if canvas is None else (await self.session(canvas)).shot.canvas
        id = new_id()

        def make() -> Session:
            made = Canvas.of(self.model, chosen, keep_steps=True)
            if other is not None:
                made.dilate = other.dilate
                made.restore(other.moments, len(other.history))
            return self._acting.made(id, made if placed is None else made.place(placed))

        return await self._rooms.add(make)

    async def read(self, content: bytes) -> Session:
        """A new session with the canvas of a file's bytes; Refusal where it is none of this model's."""
        id = new_id()
        return await self._rooms.add(lambda: self._acting.made(id, read_canvas(content, self.model)))

    async def session(self, id: str) -> Session:
        """A session by its id, from disk where it is not in memory; NotFound where there is none."""
        return await self._rooms.find(id)

    async def listed(self, before: str | None = None, limit: int = 60) -> list[dict[str, Any]]:
        """Canvases that were kept, the newest first, after `before`: `[{id, title, actions, when, thumbnail}]`."""
        return await asyncio.to_thread(self._store.listed, before, limit)

    async def act(self, session: Session, action: object) -> Job | None:
        """Do an action, as JSON has it: the job that draws, None where it is done.

        Refusal where it is no action, Busy while another one draws on that canvas, Full where too many wait.
        """
        async with session.lock:
            if session.busy:
                raise Busy("something is drawn on this canvas; wait for it, or cancel it")
            asked = read(action, replace(session.surface, pictures=self._pictures.kept))
            if asked.draws:
                return await self._begin(session, asked)
            if asked.do != "discard":
                await self._quickly(lambda: self._acting.act(session, asked))
            session.discard()
            self._reports.state(session)
            return None

    async def accept(self, session: Session, job: str, index: int) -> None:
        """Take one of the staged pictures as the next moment; NotFound where there is none, Busy as `act`."""
        async with session.lock:
            if session.busy:
                raise Busy("something is drawn on this canvas; wait for it, or cancel it")
            found = [each for each in session.staged if each.index == index and session.staged_job == job]
            if not found:
                raise NotFound("there is no such picture to take any more", "index")
            await self._quickly(lambda: self._acting.keep(session, found[0].shot))
            session.discard()
            await self._reports.hang(session, session.shot)
            self._reports.state(session)

    def cancel(self, job: str, owner: str | None = None) -> bool:
        """Stop a job, of that owner where one is given; False where there is none that goes on."""
        return self.engine.cancel(job, owner)

    async def state(self, session: Session) -> dict[str, Any]:
        """What the page draws itself by."""
        return session.state()

    async def actions(self, session: Session) -> list[dict[str, Any]] | None:
        """What was done, as `Canvas.play` takes it; None where that can't be told in full."""
        return session.shot.canvas.actions

    async def image(self, session: Session, n: int | None = None, scale: int = 1) -> bytes:
        """A moment's picture as a PNG that draws itself again, so many times larger; NotFound where there is none."""
        number(scale, "scale", 1, LARGEST_SCALE)
        shown = session.shot
        canvas = _at(shown, n)
        moment, said = canvas.now, canvas.provenance
        if (png := session.picture(moment)) is None:
            image = shown.image if n in (None, shown.place) else await self._quickly(lambda: moments.picture(canvas))
            png = await asyncio.to_thread(moments.png, image, said)
            session.keep(moment, png)
        return png if scale == 1 else await asyncio.to_thread(moments.enlarged, png, scale, said)

    async def steps(self, session: Session, n: int) -> dict[str, Any]:
        """Every step of moment n, where it is one of the last that drew; NotFound where there is no moment n."""
        canvas = _at(session.shot, n)
        return {"steps": await self._quickly(lambda: steps(canvas, self.previews))}

    async def file(self, session: Session) -> bytes:
        """The canvas's file, which `Canvas.load` reads."""
        if not self._store.has(session.id):
            await self._quickly(lambda: self._acting.keep(session, session.shot))
        return await asyncio.to_thread(self._store.content, session.id)

    def events(self, session: Session, after: int | None = None) -> AsyncGenerator[Event]:
        """What happens in a session, from the event of that number on; closing it takes the listener away."""
        return session.events.listen(after, session.state)

    async def place_picture(self, image: Image.Image) -> str:
        """Keep a dropped picture for a while, and give its id, "p_..."."""
        return self._pictures.add(await asyncio.to_thread(scaled, image))

    async def draw(self, owner: str, asked: Drawing) -> AsyncGenerator[Told]:
        """Pictures of no session, as they are drawn; closing it cancels them. Full where too many wait."""
        await self._check(asked.settings, asked.editor)
        reading = Reading()
        job = self.engine.submit(
            owner,
            lambda job: programs.draw(self.model, asked, job, reading.tell, self.previews),
            lambda job: reading.end(),
        )
        try:
            async for each in reading:
                yield each
            job.result.result()  # or what it failed by
        finally:
            self.engine.cancel(job.id)

    async def _begin(self, session: Session, asked: Action) -> Job:
        """Have an action drawn in its turn."""
        await self._check(asked.given.get("settings"), asked.given.get("editor"))
        variants: list[Variant] = []
        job = self.engine.submit(
            session.id, lambda job: self._acting.draw(session, asked, job, variants), self._reports.ended
        )
        session.begin(job, asked, variants)
        self._reports.begin(session, job)
        return job

    async def _check(self, stages: Any, editor: Any) -> None:
        """Refusal where these can't be built, or a client may not say them."""
        if stages is not None or editor is not None:
            await asyncio.to_thread(settings.check, self.model, stages, editor)

    async def _quickly(self, work: Callable[[], Any]) -> Any:
        """Have the model's thread do something before all drawing, and give what came of it."""
        return await asyncio.wrap_future(self.engine.submit(OURS, lambda job: work(), first=True).result)


def _at(shown: Shot, n: int | None) -> Canvas:
    """The canvas after n actions, as it is where that is None; NotFound where there were not so many."""
    try:
        return shown.canvas.at(shown.place if n is None else n)
    except IndexError:
        raise NotFound(f"there is no moment {n} of this canvas", "n") from None
