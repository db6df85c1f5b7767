"""One table of many runs: whole lines, each number once, and nothing of a run that failed."""

import csv
import multiprocessing
import re

import pytest
from muse_observers.table import Table

from muse_studio.contracts import RunContext
from muse_studio.errors import UserError


class Task:
    def __init__(self, use="train", out="runs/a"):
        self.use, self.out = use, out


class Scored:
    def scores(self):
        return {"R@1, seen": 0.85, "R@1, held-out": 0.25}


def finish(table, task, result):
    table.muse_finished(task, result, RunContext({"use": task.use}))


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_last_row_of_a_training_and_the_scores_of_an_evaluation(here):
    table = Table("kept/runs.csv")
    table.muse_started()
    table.muse_step({"loss": 8.5, "seconds": 1.5})
    table.muse_step(None)
    table.muse_step({"loss": 1 / 3, "seconds": 1.25})
    finish(table, Task(), object())
    table.muse_started()
    finish(table, Task("evaluate", "out/b"), Scored())
    head, *lines = rows(here / "kept/runs.csv")
    assert head == ["finished", "run", "task", "name", "value"]
    assert [line[1:] for line in lines] == [
        ["runs/a", "train", "loss", "0.3333333333333333"],
        ["runs/a", "train", "seconds", "1.25"],
        ["out/b", "evaluate", "R@1, seen", "0.85"],
        ["out/b", "evaluate", "R@1, held-out", "0.25"],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line[0]) for line in lines)


def test_a_run_that_failed_or_had_no_numbers_adds_nothing(here):
    table = Table()
    table.muse_started()
    table.muse_step({"loss": 1.0})
    table.muse_failed()
    table.muse_started()
    finish(table, Task("generate"), object())
    assert len(rows(here / "runs.csv")) == 1


def test_a_run_within_a_run_has_its_own_numbers(here):
    table = Table()
    table.muse_started()
    table.muse_started()
    table.muse_step({"loss": 2.0})
    finish(table, Task(out="sweep/1"), object())
    finish(table, Task("sweep", "sweep"), object())
    assert [line[1:] for line in rows(here / "runs.csv")[1:]] == [["sweep/1", "train", "loss", "2.0"]]


def _many(path):
    for number in range(100):
        table = Table(path)
        table.muse_started()
        table.muse_step({f"number {each}": float(number) for each in range(20)})
        finish(table, Task(), object())


def test_runs_at_once_leave_each_other_s_lines_whole(here):
    processes = [multiprocessing.get_context("fork").Process(target=_many, args=("runs.csv",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    _, *lines = rows(here / "runs.csv")
    assert len(lines) == 3 * 100 * 20
    assert all(len(line) == 5 and line[3].startswith("number ") for line in lines)


@pytest.mark.parametrize("text", ["step,loss\n1,2\n", "\n"])
def test_another_table_is_left_alone(here, text):
    (here / "log.csv").write_text(text)
    with pytest.raises(UserError, match=r"log\.csv is another table, whose first line is not finished,run,task,name,v"):
        Table("log.csv").muse_started()
    assert (here / "log.csv").read_text() == text


def test_what_can_t_be_written_is_told_before_the_run(here):
    (here / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder can't be written .*; give another file of the observer csv"):
        Table("folder").muse_started()
    (here / "odd.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"odd\.csv can't be written"):
        Table("odd.csv").muse_started()
