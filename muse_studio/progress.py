"""A progress bar on standard error, for work that takes longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

_OPEN: ContextVar[ProgressBar | None] = ContextVar("_OPEN", default=None)
"""The bar within which work goes on; two at once would overwrite each other on the terminal."""


class ProgressBar:
    """Counts `total` pieces of work; the bar shows itself once they have taken `patience` seconds.

    Short work thus stays silent, and so does a log file. The bar is on standard error: what a command prints can be
    piped. Within another bar, it stays hidden and says beside the other's label what is going on.
    """

    def __init__(self, total: int, patience: float = 2.0) -> None:
        self.total, self.patience = total, patience
        self.done, self.label = 0, ""
        self._bar: Progress | None = None

    def __enter__(self) -> ProgressBar:
        self._began = time.monotonic()
        self._outer = _OPEN.get()
        _OPEN.set(self)
        return self

    def advance(self, label: str, pieces: int = 1) -> None:
        """`pieces` more are done, and `label` says what is going on."""
        self.done, self.label = self.done + pieces, label
        if self._outer is None:
            self._show(label)
        else:
            self._outer.advance_within(label)

    def advance_within(self, label: str) -> None:
        """A part of the present piece is done, which `label` names."""
        if self._outer is None:
            self._show(f"{self.label}: {label}")
        else:
            self._outer.advance_within(label)

    def _show(self, text: str) -> None:
        if self._bar is None:
            if time.monotonic() - self._began < self.patience:
                return
            self._bar = _bar()
            self._task = self._bar.add_task(text, total=self.total)
            self._bar.start()
        self._bar.update(self._task, completed=self.done, description=text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _OPEN.set(self._outer)
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
        speed_estimate_period=3600.0,  # seconds; of pieces that take a minute, rich's 30 would hold none
        disable=not (console.is_terminal or (console.is_jupyter and find_spec("ipywidgets"))),  # rich warns without
    )


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """`items` again, with a bar that says `what`."""
    with ProgressBar(len(items)) as bar:
        for item in items:
            yield item
            bar.advance(what)
