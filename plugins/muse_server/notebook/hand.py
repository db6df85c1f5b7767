"""The hand that draws for a notebook's board: a thread of its own, which can be stopped between two steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from muse_server import settings
from muse_server.canvases import moments
from muse_server.canvases.actions import Action, read
from muse_server.canvases.fields import Surface
from muse_server.canvases.previews import Throttle, data_url, known, preview
from muse_server.canvases.shots import Shot, shot
from muse_server.engine import Engine, Job
from muse_server.refusals import Busy, Refusal
from muse_server.work.failures import failure, is_asked
from muse_studio.sampling.cascade import Watch
from muse_studio.sampling.editing.canvas import Canvas

Tell = Callable[[str, dict[str, Any]], None]
"""Takes an event's name and its data, as the page's board hears them; called by any thread."""
OWNER = "board"


class Hand:
    """Does a board's actions on a copy of its canvas, and has the canvas be what came of it.

    Whoever changes the canvas meanwhile, in a cell of the notebook, keeps what is theirs: the action then fails.
    """

    def __init__(self, canvas: Canvas, tell: Tell) -> None:
        self.canvas, self._tell = canvas, tell
        self._previews = not is_asked(canvas.model.hook, "muse_picture")
        self._throttle = Throttle()
        self._engine = Engine()
        self._engine.start()
        self._job: Job | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self._job is not None and not self._job.over

    def act(self, action: object) -> Job:
        """Begin an action, as JSON has it. Refusal where it is none, Busy while another one goes on."""
        if self.busy:
            raise Busy("something is drawn on this canvas; wait for it, or cancel it")
        asked = read(action, _surface(self.canvas))
        if asked.staged:
            raise Refusal("count: a notebook's board draws one picture at a time", "count")
        self._job = self._engine.submit(OWNER, lambda job: self._do(asked, job), self._ended)
        return self._job

    def cancel(self) -> bool:
        """Stop what is drawn, after the step that it is at; False where nothing is."""
        return self._job is not None and self._engine.cancel(self._job.id)

    def close(self) -> None:
        """Stop, and end the thread."""
        self._engine.close()

    def state(self) -> dict[str, Any]:
        """What the board draws itself by; Refused where a filter refuses the picture."""
        return _told(shot(self.canvas))

    def _do(self, action: Action, job: Job) -> dict[str, Any]:
        """In the thread: the state that comes of an action."""
        self._tell("waiting", {"job": job.id, "place": 0, "seconds": None})
        settings.check(self.canvas.model, action.given.get("settings"), action.given.get("editor"))
        before, place = self.canvas.now, len(self.canvas.history)
        canvas = moments.copied(self.canvas)
        action.on(canvas, action.seeds[0] if action.draws else None, self._watch(job, action.do != "edit"))
        made = shot(canvas)
        job.seal()
        if self.canvas.now is not before or len(self.canvas.history) != place:
            raise Refusal("the canvas was changed by the notebook meanwhile; do it again on what it is now")
        self.canvas.restore(canvas.moments, len(canvas.history))
        return _told(made)

    def _watch(self, job: Job, ends: bool) -> Watch:
        """What hears of each step. ends: whether a stage's last step comes once, and is shown in any case."""
        former = self.canvas.now.codes

        def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
            job.check()
            image = None
            if self._previews and self._throttle.due(ends and step == steps):
                with self._throttle.making():
                    image = data_url(preview(self.canvas.model.stages[stage], tokens, former[stage]))
            told = {"job": job.id, "index": 0, "stage": stage, "step": step, "steps": steps}
            self._tell("step", told | {"grid": list(tokens.shape[1:]), "known": known(tokens), "image": image})

        return watch

    def _ended(self, job: Job) -> None:
        if job.state == "done":
            self._tell("done", {"job": job.id, "state": job.result.result()})
        elif job.state == "cancelled":
            self._tell("cancelled", {"job": job.id})
        else:
            self._tell("failed", {"job": job.id, **failure(job.result.exception())})


def _surface(canvas: Canvas) -> Surface:
    grids = {name: (grid.shape[1], grid.shape[2]) for name, grid in canvas.tokens.items()}
    return Surface(canvas.size, grids, len(canvas.moments) - 1)


def _told(made: Shot) -> dict[str, Any]:
    """A state, with its picture in it, as a notebook has no address for it."""
    return {
        "place": made.place,
        "size": list(made.size),
        "grids": made.grids,
        "image": data_url(made.image),
        "redo": made.undone,
        "job": None,
        "prompt": made.prompt,
        "dilate": made.canvas.dilate,
    }
