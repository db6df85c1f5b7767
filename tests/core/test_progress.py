from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress

from muse_studio import progress
from muse_studio.progress import ProgressBar


@pytest.fixture
def shown(monkeypatch):
    """The bars that were made; a bar's only task says what it shows."""
    bars = []

    def bar():
        bars.append(Progress(console=Console(file=StringIO())))
        return bars[-1]

    monkeypatch.setattr(progress, "_bar", bar)
    return bars


def test_a_bar_within_another_says_beside_its_label_what_goes_on(shown):
    with ProgressBar(2, patience=0) as outer:
        outer.advance("first", 0)
        with ProgressBar(5, patience=0) as inner:
            inner.advance("drawing")
            with ProgressBar(9, patience=0) as innermost:
                innermost.advance("reading")
                (bar,) = shown
                assert (bar.tasks[0].description, bar.tasks[0].completed) == ("first: reading", 0)
        outer.advance("first")
        assert (bar.tasks[0].description, bar.tasks[0].completed, bar.tasks[0].total) == ("first", 1, 2)
    with ProgressBar(3, patience=0) as after:
        after.advance("alone")
    assert len(shown) == 2, "a bar that follows another one is no longer within it"


def test_a_bar_that_an_error_ends_holds_no_other_back(shown):
    with pytest.raises(RuntimeError), ProgressBar(2, patience=0):
        raise RuntimeError
    with ProgressBar(3, patience=0) as after:
        after.advance("alone")
    assert len(shown) == 1
