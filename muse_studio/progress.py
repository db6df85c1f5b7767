"""A progress bar on standard error, for work that takes longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


class ProgressBar:
    """Counts `total` pieces of work; the bar shows itself once they have taken `patience` seconds.

    Short work thus stays silent, and so does a log file. The bar is on standard error: what a command prints can be
    piped.
    """

    def __init__(self, total: int, patience: float = 2.0) -> None:
        self.total, self.patience = total, patience
        self.done = 0
        self._bar: Progress | None = None

    def __enter__(self) -> ProgressBar:
        self._began = time.monotonic()
        return self

    def advance(self, label: str, pieces: int = 1) -> None:
        """`pieces` more are done, and `label` says what is going on."""
        self.done += pieces
        if self._bar is None:
            if time.monotonic() - self._began < self.patience:
                return
            self._bar = _bar()
            self._task = self._bar.add_task(label, total=self.total)
            self._bar.start()
        self._bar.update(self._task, completed=self.done, description=label)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Progress:
    """rich's bar, imported here so that short work starts without it."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    return bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (console.is_terminal or console.is_jupyter),
    )


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """`items` again, with a bar that says `what`."""
    with ProgressBar(len(items)) as bar:
        for item in items:
            yield item
            bar.advance(what)
