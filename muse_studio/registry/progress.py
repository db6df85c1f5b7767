"""Says how far work has come that takes longer than a moment, by the hook muse_progress: plugins show it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from muse_studio.runtime import launch

T = TypeVar("T")

_OPEN: ContextVar[ProgressBar | None] = ContextVar("_OPEN", default=None)
"""The bar within which work goes on; two at once would overwrite each other on a terminal."""

_HOOK: ContextVar[Any] = ContextVar("_HOOK", default=None)
"""Pluggy's caller of those that the run which goes on tells."""


class ProgressBar:
    """Counts `total` pieces of work, and tells of each. Whether, when and how that is shown, who hears it decides.

    Within another bar, it is told as what goes on in the other's present piece. Of the processes of a training the
    first one tells.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.label = total, 0, ""
        self._told = False

    def __enter__(self) -> ProgressBar:
        self._outer = _OPEN.get()
        _OPEN.set(self)
        return self

    def advance(self, label: str, pieces: int = 1) -> None:
        """`pieces` more are done, and `label` says what is going on."""
        self.done, self.label = self.done + pieces, label
        self._tell(label)

    def _tell(self, label: str, over: bool = False) -> None:
        if self._outer is not None:
            self._outer._tell_within(label)
        elif launch.is_main():
            hook = _HOOK.get() or _installed()
            hook.muse_progress(label=label, done=self.done, total=self.total, over=over)
            self._told = True

    def _tell_within(self, label: str) -> None:
        """What goes on in the outermost bar's present piece."""
        if self._outer is not None:
            self._outer._tell_within(label)
        else:
            self._tell(f"{self.label}: {label}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _OPEN.set(self._outer)
        if self._told:
            self._tell(self.label, over=True)


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """`items` again, with a bar that says `what`."""
    with ProgressBar(len(items)) as bar:
        for item in items:
            yield item
            bar.advance(what)


@contextmanager
def reporting_to(hook: Any) -> Iterator[None]:
    """Around a run: work within it is told to `hook`, elsewhere to the plugins that are installed."""
    token = _HOOK.set(hook)
    try:
        yield
    finally:
        _HOOK.reset(token)


@functools.cache
def _installed() -> Any:
    from muse_studio.registry.plugins import Registry  # here, as only work outside of a run needs it

    return Registry().hook
