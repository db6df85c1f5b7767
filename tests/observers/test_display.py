"""What stands on the terminal: a bar for what takes long, a training's numbers, and nothing when all is over."""

import io
import re

import pytest
from muse_progress import display
from muse_progress.display import Display, number_texts, time_left
from rich.console import Console


@pytest.fixture
def terminal(monkeypatch):
    """What is written to a terminal, without its control sequences."""
    console = Console(force_terminal=True, width=120, file=io.StringIO())
    monkeypatch.setattr(display, "_console", lambda: console)
    return lambda: re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue()).replace("\r", "\n").splitlines()


@pytest.fixture
def clock(monkeypatch):
    hands = {"now": 100.0}
    monkeypatch.setattr(display.time, "monotonic", lambda: hands["now"])
    return hands


def test_short_work_stays_silent_and_long_work_shows_itself(terminal, clock):
    shown = Display()
    shown.work("reading", 0, 3, False)
    clock["now"] += 1.9
    shown.work("reading", 1, 3, False)
    assert terminal() == []
    clock["now"] += 0.2
    shown.work("reading", 2, 3, False)
    shown.work("reading", 3, 3, True)
    assert any(re.match(r"reading \S+ 2/3", line) for line in terminal())
    before = terminal()
    shown.work("drawing", 1, 3, False)
    assert terminal() == before, "each work has its own two seconds"


def test_a_label_is_no_markup(terminal):
    shown = Display(patience=0)
    shown.work("a [red] apple", 1, 2, False)
    shown.work("", 1, 2, True)
    assert any(line.startswith("a [red] apple") for line in terminal())


def test_lines_where_there_is_no_terminal(capsys):
    shown = Display(patience=0)
    shown.work("reading", 1, 2, False)
    shown.training("base", 20, 50, {"loss": 0.123456, "seconds": 2.0})
    shown.close()
    shown.work("reading", 2, 2, True)
    assert capsys.readouterr() == ("", "base 20/50  loss 0.1235  seconds 2  left 0:01:00\n")


def test_a_training_s_bar_stays(terminal):
    shown = Display()
    shown.training("base [a]", 20, 50, {"loss": 0.123456, "seconds": 120.0})
    shown.training("base [a]", 40, 50, {"loss": 0.1, "seconds": 120.0})
    shown.close()
    last = [line for line in terminal() if line.strip()][-1]
    assert re.fullmatch(r"base \[a\] \S+ 40/50 left 0:20:00  loss 0\.1  seconds 120\s*", last)


def test_work_within_a_training_and_a_training_within_work_share_the_terminal(terminal):
    shown = Display(patience=0)
    shown.work("combination 1 of 2", 0, 2, False)
    shown.training("base", 1, 2, {"loss": 1.0})
    assert terminal()[-1].startswith("base") and any("combination 1 of 2" in line for line in terminal())
    shown.close()
    shown.work("combination 2 of 2", 1, 2, False)
    shown.work("", 2, 2, True)
    assert shown == Display(patience=0), "nothing is left behind"


def test_a_share_is_told_in_percent_and_a_row_without_a_time_has_none_left():
    row = {"loss": 2.0, "mfu": 0.41234}
    assert (number_texts(row), time_left(row, 9)) == (["loss 2", "mfu 41.2%"], [])
