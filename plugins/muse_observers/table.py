"""What came of each run, in one table of many runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muse_observers.place import check_inside
from muse_studio.contracts import RunContext
from muse_studio.errors import UserError, words_of
from muse_studio.hookspecs import hookimpl
from muse_studio.runtime.files import open_folder, path_of

HEAD = "finished,run,task,name,value\n"


@dataclass
class Table:
    """Add a finished run's numbers to a CSV file, one a line, which is how tables are compared and plotted.

    Of a training the last row of its log, of an evaluation its scores. The columns are the time at which the run
    finished (UTC), the folder or file that it wrote to, its task, the number's name and its value. Runs at once may
    share a file; one that failed adds nothing.

    file: where the table is, below the folder that this runs in; it is begun where it is missing.
    """

    file: str = "runs.csv"

    def __post_init__(self) -> None:
        check_inside(self.file, "file")
        self._last: list[dict[str, float]] = []

    @hookimpl
    def muse_started(self) -> None:
        """Find out that the table can be written; UserError where it can't, or is another one."""
        if not self._last:
            _check(path_of(self.file))
        self._last.append({})

    @hookimpl
    def muse_step(self, numbers: dict[str, float] | None) -> None:
        """Keep a training's newest row."""
        if self._last and numbers is not None:
            self._last[-1] = dict(numbers)

    @hookimpl
    def muse_finished(self, task: Any, result: Any, context: RunContext) -> None:
        """Write what the run came to."""
        numbers = self._last.pop()
        if callable(scores := getattr(result, "scores", None)):
            numbers |= scores()
        run, kind = getattr(getattr(task, "fit", task), "out", ""), (context.recipe or {}).get("use")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = "".join(_line((now, run, kind, name, value)) for name, value in numbers.items())
        _append(path_of(self.file), lines)

    @hookimpl
    def muse_failed(self) -> None:
        """The innermost run is over."""
        self._last.pop()


def _check(path: Path) -> None:
    """UserError where the table can't be added to."""
    open_folder(path.parent, "file of the observer csv")
    try:
        with path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            head = file.readline()
            file.seek(0, io.SEEK_END)
            if not head:
                file.write(HEAD)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} can't be written ({words_of(error)}); give another file of the observer csv"
        ) from error
    if head not in ("", HEAD):
        raise UserError(
            f"{path} is another table, whose first line is not {HEAD.strip()}; give another file of the observer csv"
        )


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _append(path: Path, lines: str) -> None:
    """At the end of the file, at once, so that runs which finish together keep each other's lines whole."""
    with path.open("ab", buffering=0) as file:
        file.write(lines.encode())
