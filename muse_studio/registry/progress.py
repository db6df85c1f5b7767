"""Reports how far work has come that takes longer than a moment, by the hook muse_progress: plugins show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TypeVar

from muse_studio.registry.plugins import Registry
from muse_studio.registry.scope import bar_scope, current
from muse_studio.runtime import launch

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
