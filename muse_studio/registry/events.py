"""What goes on around a piece of work: the run that it belongs to, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeVar

from muse_studio.registry.plugins import Registry
from muse_studio.runtime import launch


@dataclass(frozen=True)
class Scope:
    """The work that is going on.

    hook: pluggy's caller of all that hear of the run, None outside of one.
    observers: the run's, each with its name; None outside of one.
    bar: the `ProgressBar` that is open, None where there is none.

    One context variable holds it, so that it needs no argument through data sets and parts: a run within a run, as a
    sweep has them, replaces the hook and the observers and keeps the bar, and gets the outer ones back when it ends. A
    thread starts with an empty scope of its own.
    """

    hook: Any = None
    observers: Sequence[tuple[str, Any]] | None = None
    bar: Any = None


_SCOPE: ContextVar[Scope] = ContextVar("_SCOPE")


def current() -> Scope:
    """The scope of the work that is going on."""
    return _SCOPE.get(Scope())


@contextmanager
def run_scope(hook: Any, observers: Sequence[tuple[str, Any]] = ()) -> Iterator[None]:
    """Around a run: all within it is reported to `hook`, and runs within it have these observers too."""
    with _within(replace(current(), hook=hook, observers=observers)):
        yield


@contextmanager
def bar_scope(bar: Any) -> Iterator[None]:
    """Around work that a bar counts."""
    with _within(replace(current(), bar=bar)):
        yield


@contextmanager
def _within(scope: Scope) -> Iterator[None]:
    token = _SCOPE.set(scope)
    try:
        yield
    finally:
        _SCOPE.reset(token)


T = TypeVar("T")


class ProgressBar:
    """Counts `total` pieces of work, and reports each. Whether, when and how that is shown, a plugin decides.

    Within another bar it is reported as what goes on in the other's present piece, as two at once would overwrite each
    other on a terminal. Of the processes of a training the first one reports.

    hook: whom it reports to; by default the run's observers and plugins, of a run within a run the inner one's, and
    outside of a run the plugins that are installed, which are then loaded for this bar.
    """

    def __init__(self, total: int, hook: Any = None) -> None:
        self.total, self.done, self.label = total, 0, ""
        self._hook = hook
        self._installed: Any = None
        self._outer: ProgressBar | None = None
        self._scope = ExitStack()
        self._reported = False

    def __enter__(self) -> ProgressBar:
        self._outer = current().bar
        self._scope.enter_context(bar_scope(self))
        return self

    def advance(self, label: str, pieces: int = 1) -> None:
        """`pieces` more are done, and `label` says what is going on."""
        self.done, self.label = self.done + pieces, label
        self._report(label)

    def _report(self, label: str, over: bool = False) -> None:
        if self._outer is not None:
            self._outer._report_within(label)
        elif launch.is_main():
            self._listeners().muse_progress(label=label, done=self.done, total=self.total, over=over)
            self._reported = True

    def _report_within(self, label: str) -> None:
        """What goes on in the outermost bar's present piece."""
        if self._outer is not None:
            self._outer._report_within(label)
        else:
            self._report(f"{self.label}: {label}")

    def _listeners(self) -> Any:
        if (hook := self._hook or current().hook) is not None:
            return hook
        self._installed = self._installed or Registry().hook
        return self._installed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.close()
        if self._reported:
            self._report(self.label, over=True)


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """`items` again, with a bar that says `what`."""
    with ProgressBar(len(items)) as bar:
        for item in items:
            yield item
            bar.advance(what)
