"""What is told of counted work, to whom, and how work within work is told."""

from threading import Thread
from types import SimpleNamespace

import pytest

from muse_studio.hookspecs import hookimpl
from muse_studio.registry.events import ProgressBar, progress, run_scope
from muse_studio.registry.plugins import Registry
from muse_studio.testing import RecordingObserver


@pytest.fixture
def heard():
    """(label, done, total, over) of all that is told within the test."""
    calls = []

    class Listener:
        @hookimpl
        def muse_progress(self, label, done, total, over):
            calls.append((label, done, total, over))

    registry = Registry(entries=[])
    registry.observe([("listener", Listener())])
    with run_scope(registry.hook):
        yield calls


def test_each_piece_is_told_and_the_end_once(heard):
    assert list(progress("ab", "reading")) == ["a", "b"]
    assert heard == [("reading", 1, 2, False), ("reading", 2, 2, False), ("reading", 2, 2, True)]


def test_a_bar_within_another_says_beside_its_label_what_goes_on(heard):
    with ProgressBar(2) as outer:
        outer.advance("first", 0)
        with ProgressBar(5) as inner:
            inner.advance("drawing")
            with ProgressBar(9) as innermost:
                innermost.advance("reading")
        outer.advance("first")
    with ProgressBar(3) as after:
        after.advance("alone")
    assert heard == [
        ("first", 0, 2, False),
        ("first: drawing", 0, 2, False),
        ("first: reading", 0, 2, False),
        ("first", 1, 2, False),
        ("first", 1, 2, True),
        ("alone", 1, 3, False),
        ("alone", 1, 3, True),
    ]


def test_a_bar_that_an_error_ends_holds_no_other_back(heard):
    with pytest.raises(RuntimeError), ProgressBar(2) as bar:
        bar.advance("first")
        raise RuntimeError
    with ProgressBar(3) as after:
        after.advance("alone")
    assert [call for call in heard if call[3]] == [("first", 1, 2, True), ("alone", 1, 3, True)]


def test_work_of_which_nothing_was_told_has_no_end(heard):
    with ProgressBar(2):
        pass
    assert heard == []


def test_only_the_first_process_tells(heard, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    list(progress("ab", "reading"))
    assert heard == []


def test_outside_of_a_run_the_installed_plugins_hear_of_it(monkeypatch):
    observer = RecordingObserver()
    monkeypatch.setattr("muse_studio.registry.events.Registry", lambda: SimpleNamespace(hook=observer))
    list(progress("a", "reading"))
    assert [call.arguments["over"] for call in observer.calls] == [False, True]


def test_a_bar_with_a_hook_of_its_own_reports_there_alone(heard):
    observer = RecordingObserver()
    with ProgressBar(1, observer) as bar:
        bar.advance("drawing")
    assert [call.arguments["label"] for call in observer.calls] == ["drawing", "drawing"] and heard == []


def test_a_run_within_a_run_reports_to_its_own_hook_and_gives_the_outer_one_back(heard):
    inner, registry = [], Registry(entries=[])

    class Listener:
        @hookimpl
        def muse_progress(self, label):
            inner.append(label)

    registry.observe([("inner", Listener())])
    with ProgressBar(1) as bar:
        bar.advance("run", 0)
        with run_scope(registry.hook), ProgressBar(1) as within:
            within.advance("drawing")
        bar.advance("run")
    assert inner == ["run: drawing"]
    assert [label for label, *_ in heard] == ["run", "run", "run"]


def test_a_thread_reports_as_work_of_its_own(monkeypatch, heard):
    observer = RecordingObserver()
    monkeypatch.setattr("muse_studio.registry.events.Registry", lambda: SimpleNamespace(hook=observer))
    with ProgressBar(1) as bar:
        bar.advance("outer", 0)
        thread = Thread(target=lambda: list(progress("a", "reading")))
        thread.start()
        thread.join()
    assert [call.arguments["label"] for call in observer.calls] == ["reading", "reading"]
    assert [label for label, *_ in heard] == ["outer", "outer"]
