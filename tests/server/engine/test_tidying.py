"""Memory is given back now and then, and when nothing is to do."""

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


def test_what_jobs_left_is_given_back_once_when_nothing_is_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    tidy = tidying.Tidy()
    monkeypatch.setattr(tidy, "_trim", asked.append)
    tidy.rest()
    assert asked == []
    tidy()
    tidy.rest()
    tidy.rest()
    assert asked == [0]


def test_the_engine_does_so_after_its_jobs_and_before_it_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Noted:
        def __call__(self) -> None:
            done.append("tidied")

        def rest(self) -> None:
            if done[-1:] != ["rests"]:
                done.append("rests")

    engine = Engine()
    monkeypatch.setattr(engine, "_tidy", Noted())
    engine.submit("somebody", lambda job: done.append("drawn"))
    last = engine.submit("somebody", lambda job: done.append("drawn"))
    engine.start()
    last.result.result(20)
    engine.submit("somebody", lambda job: done.append("quick"), first=True).result.result(20)
    engine.close()
    assert [each for each in done if each != "rests"] == [*["drawn", "tidied"] * 2, "quick"]
    assert "rests" not in done[:3] and done[-1] == "rests"


@pytest.mark.skipif(tidying.sys.platform != "linux", reason="only glibc has arenas")
def test_threads_share_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    library = type("Library", (), {"mallopt": lambda self, *given: asked.append(given)})
    monkeypatch.setattr(tidying.ctypes, "CDLL", lambda name: library())
    tidying.share_arena()
    assert asked == [(tidying.M_ARENA_MAX, 1)]
