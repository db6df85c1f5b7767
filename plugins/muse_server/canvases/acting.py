"""What the model's thread does for a session: acts on a copy of its canvas, and keeps what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from muse_server.canvases import moments
from muse_server.canvases.actions import Action
from muse_server.canvases.previews import Throttle, data_url, known, preview
from muse_server.canvases.sessions import Session, Variant
from muse_server.canvases.shots import Shot, shot
from muse_server.canvases.store import Store
from muse_server.work.jobs import Job
from muse_studio.sampling.cascade import Cascade, Watch
from muse_studio.sampling.editing.canvas import Canvas

Tell = Callable[[Session, str, dict[str, Any]], None]
"""Tells a session's listeners something, from the model's thread."""


def answers(model: Cascade) -> None:
    """Have a model's device do something, which fails where it is lost."""
    torch.zeros(1, device=model.device).item()


class Acting:
    """Acts on sessions' canvases in the model's thread.

    previews: whether pictures may be shown before they are finished.
    """

    def __init__(self, model: Cascade, store: Store, previews: bool, tell: Tell) -> None:
        self._model, self._store, self._previews, self._tell = model, store, previews, tell
        self._throttle = Throttle()

    def made(self, id: str, canvas: Canvas) -> Session:
        """A new session of a canvas, which is saved where something was done on it."""
        made = shot(canvas)
        if made.place or made.undone:
            self._store.save(id, canvas)
        return Session(id, made)

    def loaded(self, id: str) -> Session:
        """A session from its file."""
        return Session(id, shot(self._store.load(id, self._model)))

    def act(self, session: Session, action: Action) -> Shot:
        """Do what takes no time; the session's canvas then is the one that came of it."""
        canvas = moments.copied(session.shot.canvas)
        action.on(canvas)
        return self.keep(session, shot(moments.trimmed(canvas)))

    def draw(self, session: Session, action: Action, job: Job, variants: list[Variant]) -> None:
        """Draw all pictures of an action: one is the session's next moment, several are staged in `variants`."""
        for index, seed in enumerate(action.seeds):
            canvas = moments.copied(session.shot.canvas)
            action.on(canvas, seed, self._watch(session, job, index, action.do != "edit"))
            made = shot(moments.trimmed(canvas))
            if action.staged:
                variant = Variant(index, seed, made, data_url(made.image))
                variants.append(variant)
                self._tell(session, "staged", {"job": job.id, **variant.told()})
            else:
                job.seal()
                self.keep(session, made)

    def keep(self, session: Session, made: Shot) -> Shot:
        """Save a canvas, and have it be the session's; the former stays it where the disk refuses."""
        self._store.save(session.id, made.canvas)
        session.shot = made
        return made

    def _watch(self, session: Session, job: Job, index: int, ends: bool) -> Watch:
        """What hears of each step. ends: whether a stage's last step comes once, and is shown in any case.

        But for the last stage's: that is the picture itself, which follows.
        """
        former = session.shot.canvas.now.codes
        shown = [*self._model.stages][:-1] if ends else []

        def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
            job.check()
            image = None
            due = self._throttle.due(step == steps and stage in shown)
            if due and self._previews and session.events.listeners:
                with self._throttle.making():
                    image = data_url(preview(self._model.stages[stage], tokens, former[stage]))
            told = {"job": job.id, "index": index, "stage": stage, "step": step, "steps": steps}
            grid = {"grid": list(tokens.shape[1:]), "known": known(tokens), "image": image}
            self._tell(session, "step", told | grid | {"sent": time.time() * 1000})

        return watch
