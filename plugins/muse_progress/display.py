"""Bars on a terminal, and a training's lines elsewhere; rich draws them, and is imported once there is one to draw."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PATIENCE = 2.0
"""Seconds after which work shows itself: what is shorter stays silent."""


@dataclass
class Display:
    """What goes on in this process: work that is counted, and a training, whose rows are shown as they come.

    All is on standard error: what a command prints can be piped. Where that is no terminal, work stays hidden, and a
    training's rows are lines.
    """

    patience: float = PATIENCE
    _bars: Progress | None = field(default=None, init=False)
    _started_at: float | None = field(default=None, init=False)
    _work: TaskID | None = field(default=None, init=False)
    _training: TaskID | None = field(default=None, init=False)

    def work(self, label: str, done: int, total: int, over: bool) -> None:
        """`done` of `total` pieces, `label` says at what; once it is `over`, its bar goes."""
        if over:
            if self._work is not None and self._bars is not None:
                self._bars.remove_task(self._work)
            self._work = self._started_at = None
            if self._training is None:
                self._stop()
            return
        now = time.monotonic()
        self._started_at = now if self._started_at is None else self._started_at
        if now - self._started_at < self.patience:
            return
        bars, first = self._start(), self._work is None
        if self._work is None:
            self._work = bars.add_task(label, numbers=None)
        bars.update(self._work, description=label, completed=done, total=total, refresh=first)

    def training(self, name: str, step: int, steps: int, numbers: Mapping[str, float]) -> None:
        """A row of a training's log."""
        texts, rest = number_texts(numbers), time_left(numbers, steps - step)
        if not _console().is_terminal:
            print("  ".join([f"{name} {step}/{steps}", *texts, *rest]), file=sys.stderr, flush=True)
            return
        bars = self._start()
        if self._training is None:
            self._training = bars.add_task(name, total=steps, numbers="")
        bars.update(self._training, completed=step, numbers="  ".join([*rest, *texts]))  # a narrow one cuts the end off

    def close(self) -> None:
        """A run is over: a training's bar is left standing, unless that was part of work that goes on."""
        if self._training is not None and self._bars is not None and self._work is not None:
            self._bars.remove_task(self._training)
        elif self._training is not None:
            self._stop()
        self._training = None

    def _start(self) -> Progress:
        if self._bars is None:
            self._bars = _progress(_console())
            self._bars.start()
        return self._bars

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.live.transient = not self._bars.tasks  # without any, not even an empty line shall stay
            self._bars.stop()
            self._bars = None


def number_texts(numbers: Mapping[str, float]) -> list[str]:
    """A row's numbers with their names."""
    return [f"{key} {value:.1%}" if key == "mfu" else f"{key} {value:.4g}" for key, value in numbers.items()]


def time_left(numbers: Mapping[str, float], steps: int) -> list[str]:
    """The time that `steps` more take at a row's `seconds`; nothing where it has none."""
    return [f"left {timedelta(seconds=round(steps * numbers['seconds']))}"] if "seconds" in numbers else []


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _progress(console: Console) -> Progress:
    from rich import progress as columns
    from rich.text import Text

    class Rest(columns.ProgressColumn):
        """What is left; of a training its numbers, which are better than a clock that also counts pauses."""

        clock = columns.TimeRemainingColumn()

        def render(self, task: columns.Task) -> Text:
            numbers = task.fields["numbers"]
            if numbers is None:
                return self.clock(task)  # type: ignore[return-value]  # it is a Text
            return Text(numbers, no_wrap=True, overflow="ellipsis")  # of the text alone, so that this column gives way

    return columns.Progress(
        columns.TextColumn("{task.description}", markup=False),
        columns.BarColumn(),
        columns.MofNCompleteColumn(),
        Rest(),
        console=console,
        speed_estimate_period=3600.0,  # seconds; of pieces that take a minute, rich's 30 would hold none
        disable=not (console.is_terminal or (console.is_jupyter and find_spec("ipywidgets"))),  # rich warns without
    )
