"""Events: numbered, heard once, resumed, and never more of them than can be read."""

from __future__ import annotations

import asyncio

import pytest
from muse_server.canvases import events
from muse_server.canvases.events import Events

STATE = {"staged_job": None}


@pytest.fixture
def told():
    return Events()


async def heard(listening, count):
    """The next events, as (name, data)."""
    return [await asyncio.wait_for(anext(listening), 5) for _ in range(count)]


def run(test):
    """A coroutine function as a test."""

    def wrapped(told):
        asyncio.run(test(told))

    wrapped.__name__ = test.__name__
    return wrapped


@run
async def test_a_new_listener_is_told_the_state_and_then_what_happens(told):
    told.publish("notice", {"text": "before"})
    listening = told.listen(None, lambda: STATE)
    assert told.listeners == 0
    (first,) = await heard(listening, 1)
    assert (first.name, first.data, first.number) == ("state", STATE, told.number) and told.listeners == 1
    told.publish("notice", {"text": "after"})
    (second,) = await heard(listening, 1)
    assert second.data == {"text": "after"} and second.number == first.number + 1
    await listening.aclose()
    assert told.listeners == 0


@run
async def test_who_comes_back_hears_what_was_missed_once(told):
    start = told.number
    for text in "abc":
        told.publish("notice", {"text": text})
    listening = told.listen(start + 1, lambda: STATE)
    assert [each.data["text"] for each in await heard(listening, 2)] == ["b", "c"]
    await listening.aclose()


@run
async def test_numbers_of_before_a_restart_or_too_old_get_the_state(told):
    start = told.number
    for _ in range(events.KEPT + 1):
        told.publish("notice", {"text": ""})
    for after in (start, 57, told.number + 1):
        listening = told.listen(after, lambda: STATE)
        (first,) = await heard(listening, 1)
        assert first.name == "state" and first.number == told.number
        await listening.aclose()
    listening = told.listen(start + 1, lambda: STATE)
    assert len(await heard(listening, events.KEPT)) == events.KEPT
    await listening.aclose()


@run
async def test_a_slow_reader_gets_the_newest_step_and_the_ring_does_not_grow(told):
    start = told.number
    for step in range(1000):
        told.publish("step", {"job": "j", "index": 0, "step": step, "image": "x"})
    assert len(told._kept) == 1
    listening = told.listen(start, lambda: STATE)
    (step,) = await heard(listening, 1)
    assert step.data["step"] == 999
    told.publish("done", {"job": "j", "state": STATE})
    assert [each.name for each in await heard(listening, 1)] == ["done"] and len(told._kept) == 1
    await listening.aclose()


@run
async def test_a_newer_state_is_told_instead_of_older_ones(told):
    start = told.number
    told.publish("staged", {"job": "a", "index": 0})
    told.publish("done", {"job": "a", "state": {"staged_job": "a", "n": 1}})
    told.publish("state", {"staged_job": "a", "n": 2})
    told.publish("failed", {"job": "b", "message": "", "refused": False})
    listening = told.listen(start, lambda: STATE)
    got = await heard(listening, 4)
    assert [each.name for each in got] == ["staged", "done", "state", "failed"] and got[1].data["state"]["n"] == 2
    told.publish("state", {"staged_job": None, "n": 3})
    assert [each.name for each in told._kept] == ["done", "failed", "state"]
    assert told._kept[0].data == {"job": "a", "state": {"staged_job": None, "n": 3}}
    await listening.aclose()


@run
async def test_closing_ends_all_listening(told):
    listening = told.listen(None, lambda: STATE)
    await heard(listening, 1)
    waiting = asyncio.ensure_future(anext(listening))
    await asyncio.sleep(0)
    told.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert told.listeners == 0


@run
async def test_a_listener_that_is_cancelled_is_gone(told):
    async def listen():
        async for _ in told.listen(None, lambda: STATE):
            pass

    task = asyncio.ensure_future(listen())
    await asyncio.sleep(0.01)
    assert told.listeners == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert told.listeners == 0
