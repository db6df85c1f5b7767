"""A run's log: every row, whole at every moment, whatever happened to the run before."""

import csv

import pytest

from muse_studio.errors import UserError
from muse_studio.training.log import Log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.csv"


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_rows_are_there_as_soon_as_they_are_told(path):
    log = Log(path, 0)
    assert path.read_text() == ""
    log.append({"step": 1, "loss": 0.1})
    assert path.read_text().splitlines() == ["step,loss", "1,0.1"]
    log.append({"step": 2, "loss": 1 / 3})
    assert table(path)[-1] == ["2", "0.3333333333333333"]


def test_a_number_that_comes_late_gets_a_column(path):
    log = Log(path, 0)
    log.append({"step": 1, "loss": 0.5, "seconds": 2.0})
    log.append({"step": 2, "loss": 0.4, "critic": 1.5, "seconds": 2.0})
    log.append({"step": 3, "loss": 0.3, "seconds": 2.0})
    assert table(path) == [
        ["step", "loss", "seconds", "critic"],
        ["1", "0.5", "2.0", ""],
        ["2", "0.4", "2.0", "1.5"],
        ["3", "0.3", "2.0", ""],
    ]
    assert Log(path, 3).rows == log.rows


def test_rows_behind_the_start_are_dropped(path):
    log = Log(path, 0)
    for step in range(1, 6):
        log.append({"step": step, "loss": step / 3})
    again = Log(path, 3)
    assert again.rows == log.rows[:3]
    assert [row[0] for row in table(path)] == ["step", "1", "2", "3"]


def test_a_line_cut_off_does_not_count(path):
    path.write_text("step,loss\n10,0.5\n2")
    assert Log(path, 10).rows == [{"step": 10, "loss": 0.5}]


@pytest.mark.parametrize(
    "text",
    [
        *("step,loss\n1,much\n", "a,b\n1,2\n", "step,loss\n1,2,3\n", "step,loss\n1e400,2\n", "step,loss\nnan,2\n"),
        *("step,loss\n1.5,2\n", "step,loss\n-1,2\n", "step,loss\n1,nan\n", "step,loss\n1,1e400\n"),
        *("step,loss,norm\n1,1,inf\n", f"step,loss\n1,{'9' * 200_000}\n"),
    ],
)
def test_a_strange_table_is_told(path, text):
    path.write_text(text)
    with pytest.raises(UserError, match=r"log\.csv is not a log that a run wrote .*; move it away"):
        Log(path, 10)


def test_a_number_beside_the_loss_may_be_infinite(path):
    path.write_text("step,loss,ratio\n1,2,inf\n")
    assert Log(path, 10).rows == [{"step": 1, "loss": 2, "ratio": float("inf")}]
