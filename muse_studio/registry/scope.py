"""What goes on around a piece of work: which run it belongs to, and which progress bar it is a piece of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Scope:
    """The work that is going on.

    hook: pluggy's caller of all that hear of the run, None outside of one.
    observers: the run's, each with its name; None outside of one.
    bar: the `progress.ProgressBar` that is open, None where there is none.

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
