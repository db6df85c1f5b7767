"""The numbers of a run while it trains, in a CSV file, from which it goes on and its curves are drawn."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from muse_studio.errors import UserError, in_one_line
from muse_studio.runtime.files import path_of, replacing

if TYPE_CHECKING:
    from muse_studio.training.fit import Fit

Row: TypeAlias = dict[str, float]

LOG = "log.csv"
"""In a run's folder, its log."""


@runtime_checkable
class Logged(Protocol):
    """A task that trains, and keeps a log: by `log_of` an observer finds it."""

    fit: Fit


def log_of(task: Logged) -> Path:
    """The log of a task's run, in the folder that its `fit.out` names; there is none before the run's first step."""
    return path_of(task.fit.out) / LOG


class Log:
    """The rows of a run, in a CSV file that is there at every moment; a number that first comes late adds a column.

    path: the file. start: the step that the run goes on from; rows behind it are dropped, as they will come again.
    writes: whether this process is the one to write it.
    """

    def __init__(self, path: Path, start: int, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.rows = [row for row in read(path) if row["step"] <= start]
        self._write()

    def append(self, row: Row) -> None:
        """Add a row, `step` among its numbers."""
        before = self.columns
        self.rows.append(row)
        if not self.writes:
            return
        if self.columns != before:
            self._write()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, before).writerow(row)

    @property
    def columns(self) -> list[str]:
        """The names of all numbers, in the order in which they came up."""
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def _write(self) -> None:
        if not self.writes:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        with replacing(self.path) as aside:
            aside.write_text(text.getvalue() if self.rows else "", encoding="utf-8", newline="")


def read(path: Path) -> list[Row]:
    """The rows of a log, none where there is no file; UserError where it is no log.

    A last line that was cut off, by a run that was killed, does not count.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            whole = [line for line in file if line.endswith("\n")]
        return [_row(row) for row in csv.DictReader(whole)]
    except (ValueError, TypeError, KeyError, csv.Error, OSError) as error:
        raise UserError(f"{path} is not a log that a run wrote ({in_one_line(error)}); move it away") from error


def _row(said: dict[str, str]) -> Row:
    """A line's numbers; ValueError where one is none, or where the step, the loss or the norm can't be."""
    row = {key: float(value) for key, value in said.items() if value}
    step = row["step"]
    if not (step.is_integer() and step >= 0):
        raise ValueError(f"a step of {step:g}")
    loss = next((key for key in row if key != "step"), "step")
    for key, value in row.items():
        if math.isnan(value) or (key in (loss, "norm") and math.isinf(value)):  # a run ends before it logs such
            raise ValueError(f"a {key} of {value:g}")
    return row | {"step": int(step)}
