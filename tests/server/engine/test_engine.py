"""The engine: in turn over owners, cancelled at any time, and never ended by a job."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muse_server.engine import Cancelled, Engine, Full
from muse_server.work.jobs import Job
from muse_server.work.turns import Turns

from muse_studio.errors import UserError


@pytest.fixture
def engine():
    made = Engine(waiting=6, each=3)
    made.start()
    yield made
    made.close()


class Held:
    """A job's work that begins, and then takes steps only when it is let."""

    def __init__(self):
        self.begun, self.step, self.steps = threading.Event(), threading.Semaphore(0), 0

    def __call__(self, job):
        self.begun.set()
        while self.step.acquire(timeout=20):
            job.check()
            self.steps += 1

    def let(self):
        self.step.release()


@pytest.fixture
def held(engine):
    """A job that is being drawn, for an owner called "now"."""
    work = Held()
    work.job = engine.submit("now", work)
    assert work.begun.wait(20)
    yield work
    work.job.stop()
    work.let()


def test_it_gives_what_the_work_gives(engine):
    told = []
    job = engine.submit("ann", lambda job: 7, lambda job: told.append((job.state, threading.current_thread().name)))
    assert job.result.result(20) == 7 and job.state == "done" and job.over
    engine.close()
    assert told == [("done", "muse model")]


def test_owners_take_turns(engine, held):
    order = []
    jobs = [engine.submit(owner, lambda job: order.append(job.owner)) for owner in ("now", "ann", "ann", "bob")]
    assert engine.queue() == {
        "now": held.job.id,
        "waiting": [jobs[1].id, jobs[3].id, jobs[0].id, jobs[2].id],
        "mean_seconds": None,
    }
    engine.cancel(held.job.id)
    held.let()
    for job in jobs:
        job.result.result(20)
    assert order == ["ann", "bob", "now", "ann"]
    assert engine.queue()["mean_seconds"] is not None


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.sampled_from(["", "a"]))
def test_the_order_that_is_told_is_the_order_that_comes(owners, now):
    def job(owner):
        return Job(owner, lambda job: None, None, False, lambda: None)

    turns, drawn = Turns(), job(now)
    for owner in owners:
        turns.add(job(owner), drawn)
    order = turns.order()
    assert [turns.take() for _ in range(len(turns))] == order and not turns
    rounds = {owner: [each.owner for each in order].index(owner) for owner in set(owners)}
    assert len({*rounds.values()}) == len(rounds) and max(rounds.values(), default=-1) == len(rounds) - 1


def test_a_job_is_cancelled_while_it_waits_while_it_is_drawn_and_not_once_it_ended(engine, held):
    told = []
    waiting = engine.submit("ann", lambda job: told.append("drawn"), lambda job: told.append(job.state))
    assert not engine.cancel(waiting.id, "bob") and engine.cancel(waiting.id, "ann") and not engine.cancel(waiting.id)
    assert waiting.state == "cancelled" and engine.queue()["waiting"] == [] and told == ["cancelled"]
    assert engine.cancel(held.job.id) and not engine.cancel(held.job.id)
    held.let()
    for job in (waiting, held.job):
        with pytest.raises(Cancelled):
            job.result.result(20)
    assert told == ["cancelled"] and held.steps == 0
    assert not engine.cancel(held.job.id) and not engine.cancel("j_none")


def test_what_has_begun_to_end_is_cancelled_no_more(engine):
    sealed, go_on = threading.Event(), threading.Event()

    def work(job):
        job.seal()
        sealed.set()
        return go_on.wait(20)

    job = engine.submit("ann", work)
    assert sealed.wait(20) and not engine.cancel(job.id)
    go_on.set()
    assert job.result.result(20)


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (UserError("no such stage"), "failed", "no such stage"),
        (ZeroDivisionError("a bug"), "failed", "a bug"),
        (SystemExit(), "failed", "SystemExit"),
        (MemoryError(), "failed", "there is not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "failed", "not enough memory for 2.00 GiB"),
    ],
)
def test_an_exception_fails_its_job_alone(engine, error, state, words):
    def work(job):
        raise error

    failed, after = engine.submit("ann", work), engine.submit("ann", lambda job: "drawn")
    assert after.result.result(20) == "drawn"
    assert failed.state == state and words in failed.failed
    raised = failed.result.exception(20)
    assert type(raised) is (UserError if "memory" in words else type(error))


def test_what_failed_holds_no_tensors(engine):
    class Large:
        pass

    alive = []

    def work(job):
        large = Large()
        alive.append(weakref.ref(large))
        raise ValueError("a bug")

    job = engine.submit("ann", work)
    assert isinstance(job.result.exception(20), ValueError)
    engine.submit("ann", lambda job: None).result.result(20)
    gc.collect()
    assert alive[0]() is None


def test_an_end_that_nobody_can_be_told_of_ends_nothing(engine):
    def ended(job):
        raise RuntimeError("the loop is closed")

    def moved():
        raise RuntimeError("the loop is closed")

    engine.moved = moved
    engine.submit("ann", lambda job: None, ended).result.result(20)
    assert engine.submit("ann", lambda job: 1).result.result(20) == 1


def test_a_device_that_is_lost_is_told_of_once():
    def gone():
        raise RuntimeError("CUDA error: unspecified launch failure")

    engine, lost = Engine(alive=gone), []
    engine.lost = lost.append
    engine.start()
    for error in (UserError("a word"), ValueError("a bug"), ValueError("another")):

        def work(job, error=error):
            raise error

        engine.submit("ann", work).result.exception(20)
    engine.close()
    assert [str(each) for each in lost] == ["CUDA error: unspecified launch failure"]


def test_quick_jobs_are_done_between_steps(engine, held):
    did = []
    quick = engine.submit("ann", lambda job: job.check() or did.append(held.steps), first=True)
    assert not quick.over
    held.let()
    quick.result.result(20)
    with pytest.raises(ZeroDivisionError):
        broken = engine.submit("ann", lambda job: 1 // 0, first=True)
        held.let()
        broken.result.result(20)
    assert did == [0] and held.job.state == "drawing"


def test_too_many_are_refused_and_told_when_to_come_back(engine, held):
    for owner in ("ann", "ann", "ann", "bob", "bob", "bob"):
        engine.submit(owner, lambda job: None)
    with pytest.raises(Full, match="3 of your pictures wait already") as error:
        engine.submit("ann", lambda job: None)
    assert error.value.retry_after >= 1
    with pytest.raises(Full, match="6 pictures wait already"):
        engine.submit("eve", lambda job: None)
    engine.submit("eve", lambda job: None, limit=False)
    quick = [engine.submit("eve", lambda job: None, first=True) for _ in range(6)]
    with pytest.raises(Full, match="too much is asked for at once"):
        engine.submit("eve", lambda job: None, first=True)
    held.let()
    for job in quick:
        job.result.result(20)


def test_closing_cancels_all_and_ends_the_thread():
    engine, work, told = Engine(), Held(), []
    moved = threading.Event()
    engine.moved = moved.set
    engine.start()
    now = engine.submit("ann", work, lambda job: told.append(job.id))
    assert work.begun.wait(20) and moved.is_set()
    waiting = engine.submit("bob", lambda job: None, lambda job: told.append(job.id))
    quick = engine.submit("bob", lambda job: None, lambda job: told.append(job.id), first=True)
    threading.Timer(0.05, work.let).start()
    engine.close()
    assert {job.state for job in (now, waiting, quick)} == {"cancelled"}
    assert sorted(told) == sorted(job.id for job in (now, waiting, quick))
    with pytest.raises(Full, match="closing"):
        engine.submit("ann", lambda job: None)
