"""A session: a canvas that somebody draws on, what is drawn just now, and what there is to choose from."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from muse_server.canvases.actions import Action
from muse_server.canvases.events import Events
from muse_server.canvases.fields import Surface
from muse_server.canvases.shots import Shot
from muse_server.work.jobs import Job

PICTURES = 24
"""Encoded pictures of a session's moments that stay in memory."""


@dataclass(frozen=True)
class Variant:
    """One of several pictures that a drawing gave, of which one may be taken. address: a data URL of it."""

    index: int
    seed: int
    shot: Shot
    address: str

    def told(self) -> dict[str, Any]:
        """As the state of a session has it."""
        return {"index": self.index, "seed": self.seed, "image": self.address}


class Session:
    """A canvas that somebody draws on; on the event loop alone, but for `shot`, which the model's thread replaces.

    shot: the canvas as it is. job: what is drawn or waits, of `count` pictures. staged: what a drawing gave, by the
    job's id `staged_job`, until one is taken; the model's thread adds to it.
    """

    def __init__(self, id: str, shot: Shot) -> None:
        self.id, self.shot = id, shot
        self.events = Events()
        self.lock = asyncio.Lock()
        self.job: Job | None = None
        self.count = 1
        self.staged: list[Variant] = []
        self.staged_job: str | None = None
        self.pictures: OrderedDict[int, tuple[Any, bytes]] = OrderedDict()
        self.used = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether something is drawn on it, or waits to be."""
        return self.job is not None and not self.job.over

    @property
    def idle(self) -> bool:
        """Whether nobody would notice if it were not in memory."""
        return not self.busy and not self.events.listeners and not self.lock.locked()

    @property
    def surface(self) -> Surface:
        """What an action is read against, without pictures."""
        grids = {name: (each["grid"][0], each["grid"][1]) for name, each in self.shot.grids.items()}
        return Surface(self.shot.size, grids, self.shot.place + self.shot.undone)

    def discard(self) -> None:
        """Throw away what is staged."""
        self.staged, self.staged_job = [], None

    def begin(self, job: Job, action: Action, variants: list[Variant]) -> None:
        """A drawing waits, or has begun already; what it stages is put into `variants`."""
        self.job, self.count, self.staged = job, len(action.seeds), variants
        self.staged_job = job.id if action.staged else None

    def picture(self, moment: Any) -> bytes | None:
        """A moment's encoded picture, where it is remembered."""
        found = self.pictures.get(id(moment))
        return None if found is None else found[1]

    def keep(self, moment: Any, png: bytes) -> None:
        """Remember a moment's encoded picture."""
        self.pictures[id(moment)] = moment, png
        self.pictures.move_to_end(id(moment))
        while len(self.pictures) > PICTURES:
            self.pictures.popitem(last=False)

    def state(self) -> dict[str, Any]:
        """What the page draws itself by."""
        shot, address = self.shot, f"/api/sessions/{self.id}/image?n="
        history = [
            {
                "n": number,
                "did": did,
                "seed": did.get("seed"),
                "thumbnail": f"{address}{number}" if "seed" in did or did["do"] == "place" else None,
            }
            for number, did in enumerate(shot.history, 1)
        ]
        job = {"id": self.job.id, "index": len(self.staged), "count": self.count} if self.job and self.busy else None
        return {
            "id": self.id,
            "place": shot.place,
            "size": list(shot.size),
            "grids": shot.grids,
            "image": f"{address}{shot.place}",
            "history": history,
            "redo": shot.undone,
            "job": job,
            "staged": [each.told() for each in self.staged],
            "staged_job": self.staged_job,
            "prompt": shot.prompt,
            "title": shot.title,
            "dilate": shot.canvas.dilate,
        }
