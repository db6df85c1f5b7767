"""What is being drawn for A1111's scripts: how far it is, and how it is interrupted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from muse_server.drawings import Advanced, Finished


@dataclass
class Run:
    """One request that draws. count: its pictures; stages: names, in their order; began: seconds since 1970."""

    count: int
    stages: Sequence[str]
    began: float = field(default_factory=time.time)
    finished: list[Finished] = field(default_factory=list)
    image: Image.Image | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    step: int = 0
    steps: int = 0
    _share: float = 0.0

    def advance(self, to: Advanced) -> None:
        """One step more of one picture."""
        self.step, self.steps = to.step, to.steps
        self._share = (to.index + (self.stages.index(to.stage) + to.step / to.steps) / len(self.stages)) / self.count

    @property
    def progress(self) -> float:
        """The share that is drawn, from 0 to 1."""
        return min(1.0, max(self._share, len(self.finished) / self.count))


class Runs:
    """All that are being drawn, by whom they are for; on the event loop alone."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Run]] = {}

    @contextmanager
    def one(self, owner: str, count: int, stages: Sequence[str]) -> Iterator[Run]:
        """A run that is among them for as long."""
        run = Run(count, stages)
        self._runs.setdefault(owner, []).append(run)
        try:
            yield run
        finally:
            self._runs[owner].remove(run)
            if not self._runs[owner]:
                del self._runs[owner]

    def stop(self, owner: str) -> None:
        """Interrupt all that is drawn for one; what is finished by then is kept."""
        for run in self._runs.get(owner, []):
            run.stopped.set()

    def told(self, owner: str) -> tuple[dict[str, Any], Image.Image | None]:
        """How far an owner's first run is, as A1111 tells it, and its newest picture on the way."""
        run = next(iter(self._runs.get(owner, [])), None)
        progress = run.progress if run else 0.0
        state = {
            "skipped": False,
            "interrupted": bool(run and run.stopped.is_set()),
            "job": "muse" if run else "",
            "job_count": run.count if run else 0,
            "job_no": len(run.finished) if run else 0,
            "sampling_step": run.step if run else 0,
            "sampling_steps": run.steps if run else 0,
        }
        left = (time.time() - run.began) * (1 - progress) / progress if run and progress else 0.0
        answer = {"progress": progress, "eta_relative": left, "state": state, "current_image": None, "textinfo": None}
        return answer, run.image if run else None
