"""What a run tells while it trains: rows in a CSV file, and a bar or lines on standard error."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from muse_studio.errors import UserError
from muse_studio.files import replacing

Row: TypeAlias = dict[str, float]


class Log:
    """The rows of a run, in a CSV file that is there at every moment; a number that first comes late adds a column.

    path: the file. start: the step that the run goes on from; rows behind it are dropped, as they will come again.
    writes: whether this process is the one to write it.
    """

    def __init__(self, path: Path, start: int, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.rows = [row for row in _read(path) if row["step"] <= start]
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


def _read(path: Path) -> list[Row]:
    """The rows of a file; a last line that was cut off, by a run that was killed, does not count."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            whole = [line for line in file if line.endswith("\n")]
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(whole)]
        return [row | {"step": int(row["step"])} for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not a log that a run wrote ({error}); move it away") from error


@contextmanager
def watch(name: str, start: int, steps: int, speaks: bool) -> Iterator[Callable[[Row], None]]:
    """Shows rows, and the time that is left: a bar on a terminal, lines elsewhere.

    speaks: whether this process is the one to show anything.
    """
    if not speaks:
        yield lambda row: None
        return
    console = Console(stderr=True)

    def text(row: Row) -> str:
        return tell(row, steps)

    if not console.is_terminal:
        yield lambda row: print(f"{name} {row['step']}/{steps}  {text(row)}", file=sys.stderr, flush=True)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=steps, completed=start, numbers="")
        yield lambda row: bar.update(task, completed=row["step"], numbers=text(row))


def tell(row: Row, steps: int) -> str:
    """A row's numbers in one line, but for its step, and the time left: what remains of `steps`, at its `seconds`."""
    told = [
        f"{key} {value:.1%}" if key == "mfu" else f"{key} {value:.4g}" for key, value in row.items() if key != "step"
    ]
    if "seconds" in row:
        left = timedelta(seconds=round((steps - row["step"]) * row["seconds"]))
        told.append(f"left {left}")
    return "  ".join(told)
