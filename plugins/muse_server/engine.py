"""The thread that has the model: jobs in a fair queue, one after the other; it knows neither HTTP nor asyncio."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from muse_server.refusals import Full
from muse_server.work.jobs import Cancelled, Job
from muse_server.work.tidying import Tidy
from muse_server.work.turns import Turns
from muse_studio.errors import UserError, words_of
from muse_studio.runtime import memory

__all__ = ["Cancelled", "Engine", "Full", "Job"]

REMEMBERED = 16
"""Jobs whose seconds the mean is of."""
PAST = 1024
"""Jobs that are known to have ended."""
NAP = 0.5
"""Seconds after which a thread that waits for a job looks up: on Windows no signal is heard before."""

log = logging.getLogger(__name__)


class Engine:
    """Does jobs in one thread, in turn over their owners: in its own, by `start`, or in that which calls `run`.

    waiting: jobs that wait at most, in all. each: of one owner. Quick jobs are done before all others, and between the
    steps of one that is being drawn. An exception of a job fails that job alone. alive: is called by the thread after
    a job failed by an error that nobody's words explain; it raises where the device is lost, and with it the engine.
    """

    def __init__(self, *, waiting: int = 64, each: int = 4, alive: Callable[[], object] | None = None) -> None:
        self.moved: Callable[[], None] | None = None
        """Called whenever the queue moves, by any thread."""
        self.lost: Callable[[BaseException], object] | None = None
        """Called by the thread, once, where the device is lost."""
        self._alive = alive
        self._most, self._each = waiting, each
        self._turns = Turns()
        self._quick: deque[Job] = deque()
        self._now: Job | None = None
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._past: deque[str] = deque(maxlen=PAST)
        self._changed = threading.Condition()
        self._closed = False
        self._tidy = Tidy()
        self._working, self._rests = False, threading.Event()

    def start(self) -> None:
        """Begin to work, in a thread of its own."""
        threading.Thread(target=self.run, name="muse model", daemon=True).start()

    def run(self) -> None:
        """Work in this thread, until another one closes it."""
        with self._changed:
            if self._closed:
                return
            self._working = True
        try:
            while (job := self._wait()) is not None:
                self._do(job)
        finally:
            self._rests.set()

    def close(self) -> None:
        """Cancel all jobs, and wait until the work ends, which it does after the step that it is at."""
        with self._changed:
            self._closed = True
            stopped = [job for job in self._known() if job.stop() and self._drop(job)]
            self._changed.notify()
        for job in stopped:
            self._end(job, Cancelled())
        if self._working:
            self._rests.wait()

    def submit(
        self,
        owner: str,
        work: Callable[[Job], Any],
        ended: Callable[[Job], None] | None = None,
        first: bool = False,
        limit: bool = True,
    ) -> Job:
        """A job that waits for its turn; Full where too many do.

        work: is called in the model's thread with its job, whose `check` it calls between its steps. ended: is called
        when the job has ended, however it did, in that thread or, of one that waited, in the one that cancelled it.
        first: a quick job, which goes before all others. limit: whether it may be too many.
        """
        job = Job(owner, work, ended, first, self._between)
        with self._changed:
            if self._closed:
                raise Full("the server is closing; start it again", 1)
            if limit:
                self._refuse(owner, first)
            if first:
                self._quick.append(job)
            else:
                self._turns.add(job, self._now)
            self._changed.notify()
        self._tell()
        return job

    def cancel(self, job: str, owner: str | None = None) -> bool:
        """Stop a job, of that owner where one is given: at once where it waits, else after its step.

        False where there is none that goes on.
        """
        with self._changed:
            found = next((each for each in self._known() if each.id == job), None)
            if found is None or owner not in (None, found.owner) or not found.stop():
                return False
            waited = self._drop(found)
        if waited:
            self._end(found, Cancelled())
            self._tell()
        return True

    def ended(self, job: str) -> bool:
        """Whether a job has ended, however it did, and not long ago."""
        with self._changed:
            return job in self._past

    def queue(self) -> dict[str, Any]:
        """The id of the job that is being drawn, or None; those that wait, in order; and a job's mean seconds."""
        with self._changed:
            now = self._now.id if self._now else None
            return {"now": now, "waiting": [job.id for job in self._turns.order()], "mean_seconds": self._mean()}

    def _known(self) -> list[Job]:
        return [*self._turns.order(), *self._quick, *([self._now] if self._now else [])]

    def _refuse(self, owner: str, first: bool) -> None:
        """Full where there is no room for one more job of this owner; quick ones are counted by themselves."""
        soon = max(1, round(self._mean() or 1.0))
        if first and len(self._quick) >= self._most:
            raise Full("too much is asked for at once; try again", 1)
        if not first and (own := self._turns.count(owner)) >= self._each:
            raise Full(f"{own} of your pictures wait already; let one be drawn first", soon)
        if not first and (waiting := len(self._turns)) >= self._most:
            raise Full(f"{waiting} pictures wait already; try again later", soon)

    def _mean(self) -> float | None:
        return sum(self._seconds) / len(self._seconds) if self._seconds else None

    def _drop(self, job: Job) -> bool:
        """Let a job that was stopped wait no longer; False where it is being done. The lock is held."""
        if job is self._now:
            return False
        if job.quick:
            self._quick.remove(job)
        else:
            self._turns.remove(job)
            self._past.append(job.id)
        job.state = "cancelled"
        return True

    def _wait(self) -> Job | None:
        """The next job, once there is one; None where the engine is closed."""
        while True:
            if (job := self._next()) is not None:
                return job
            self._tidy.rest()
            with self._changed:
                if self._turns or self._quick:
                    continue
                if self._closed:
                    return None
                self._changed.wait(NAP)

    def _between(self) -> None:
        """Do the quick jobs that wait."""
        while (job := self._next(quick=True)) is not None:
            self._do(job)

    def _next(self, quick: bool = False) -> Job | None:
        """The next job, taken from the queue; None where there is none."""
        with self._changed:
            if self._quick:
                job = self._quick.popleft()
            elif quick or not self._turns:
                return None
            else:
                job = self._now = self._turns.take()
            job.state = "drawing"
        if not job.quick:
            self._tell()
        return job

    def _do(self, job: Job) -> None:
        begun, result = time.monotonic(), None
        failure: BaseException | None = None
        try:
            result = job.work(job)
        except BaseException as error:  # not even SystemExit may end the thread that all wait for
            failure = _cause(job, error)
        with self._changed:
            job.state = "failed" if failure is not None else "done"
            if not job.quick:
                self._now = None
                self._past.append(job.id)
                if failure is None:
                    self._seconds.append(time.monotonic() - begun)
        self._end(job, failure, result)
        if failure is not None and not isinstance(failure, Cancelled | UserError):
            self._look_after()
        if not job.quick:
            self._tell()
            self._tidy()

    def _look_after(self) -> None:
        """Tell where the device is lost, whose every further job would fail."""
        try:
            if self._alive is not None:
                self._alive()
        except Exception as error:
            self._alive = None
            log.critical("the device is lost; the server ends", exc_info=error)
            if self.lost is not None:
                self.lost(error)

    def _end(self, job: Job, failure: BaseException | None, result: Any = None) -> None:
        """Tell all who wait for a job that it has ended."""
        if isinstance(failure, Cancelled):
            job.state = "cancelled"
        elif failure is not None:
            job.failed = words_of(failure)
        ended, job.ended, job.work = job.ended, None, _nothing  # which may hold a picture
        if failure is None:
            job.result.set_result(result)
        else:
            job.result.set_exception(failure)
        try:
            if ended is not None:
                ended(job)
        except Exception:
            log.exception("it could not be told that a job ended")

    def _tell(self) -> None:
        try:
            if self.moved is not None:
                self.moved()
        except Exception:
            log.exception("it could not be told that the queue moved")


def _nothing(job: Job) -> None:
    """The work of a job that has ended."""


def _cause(job: Job, error: BaseException) -> BaseException:
    """What a job failed by, without the tensors that its frames hold; a lack of memory as a UserError."""
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
    if job.stopping:  # whatever the exception became on its way through others' code
        return Cancelled()
    if isinstance(error, Exception) and (refusal := memory.refusal(error)) is not None:
        return UserError(refusal)
    if not isinstance(error, UserError):
        log.error("a job failed", exc_info=error)
    return error
