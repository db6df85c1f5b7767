"""What is told of counted work, to whom, and how work within work is told."""

import pytest

from muse_studio.hookspecs import hookimpl
from muse_studio.registry.plugins import Registry
from muse_studio.registry.progress import ProgressBar, progress, reporting_to
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
    with reporting_to(registry.hook):
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
    monkeypatch.setattr("muse_studio.registry.progress._installed", lambda: observer)
    list(progress("a", "reading"))
    assert [call.arguments["over"] for call in observer.calls] == [False, True]
