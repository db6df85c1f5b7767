"""Memory is given back now and then, and nowhere at the cost of a job."""

from __future__ import annotations

import pytest
from muse_server.engine import Engine
from muse_server.work import tidying


def test_it_is_given_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    times = iter([0.0, 1.0, tidying.EVERY, tidying.EVERY, tidying.EVERY + 1, 3 * tidying.EVERY, 3 * tidying.EVERY])
    monkeypatch.setattr(tidying.time, "monotonic", lambda: next(times))
    tidy = tidying.Tidy()
    monkeypatch.setattr(tidy, "_trim", asked.append)
    for given in (0, 1, 1, 2):
        tidy()
        assert len(asked) == given


def test_where_the_library_has_no_such_thing_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying.sys, "platform", "win32")
    tidy = tidying.Tidy()
    assert tidy._trim is None
    tidy()


def test_the_engine_does_so_after_its_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    done: list[str] = []
    monkeypatch.setattr(engine, "_tidy", lambda: done.append("tidied"))
    engine.start()
    engine.submit("somebody", lambda job: done.append("drawn")).result.result(20)
    engine.submit("somebody", lambda job: None, first=True).result.result(20)
    engine.close()
    assert done == ["drawn", "tidied"]
