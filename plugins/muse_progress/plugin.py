"""Shows on standard error how far a run has come, as every run does until this plugin is left out."""

from __future__ import annotations

from collections.abc import Mapping

from muse_progress.display import Display
from muse_studio.hookspecs import hookimpl

_DISPLAY = Display()
"""One for the process, as it has one terminal: a run within a run shows itself beside the outer one."""


@hookimpl
def muse_progress(label: str, done: int, total: int, over: bool) -> None:
    """A bar for work that takes a while."""
    _DISPLAY.work(label, done, total, over)


@hookimpl
def muse_step(stage: str, step: int, steps: int, numbers: Mapping[str, float] | None) -> None:
    """A training's numbers."""
    if numbers is not None:
        _DISPLAY.training(stage, step, steps, numbers)


@hookimpl
def muse_finished() -> None:
    """A training's bar stays on the terminal, as it is."""
    _DISPLAY.close()


@hookimpl
def muse_failed() -> None:
    """The same."""
    _DISPLAY.close()
