"""Observers that people want beside what tasks show and log themselves, and every training's curves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from muse_studio.hookspecs import hookimpl


@cache
def _curves() -> Any:
    """What draws a training's curves: one for the process, which trains one model at a time; imported when one logs."""
    from muse_observers.curves import Curves

    return Curves()


@hookimpl
def muse_observers() -> dict[str, str]:
    """`preview` shows what is being drawn, `word-filter` refuses prompts; the others log."""
    return {
        "csv": "muse_observers.table:Table",
        "preview": "muse_observers.preview:Preview",
        "tensorboard": "muse_observers.tensorboard:TensorBoard",
        "wandb": "muse_observers.weights_and_biases:WeightsAndBiases",
        "word-filter": "muse_observers.words:WordFilter",
    }


@hookimpl
def muse_step(stage: str, numbers: Mapping[str, float] | None) -> None:
    """A row of a training's log."""
    if numbers is not None:
        _curves().follow(stage)


@hookimpl
def muse_finished(task: object) -> None:
    """The curves of a training."""
    if _curves.cache_info().currsize:  # a training has logged something
        _curves().finished(task)


@hookimpl
def muse_failed(task: object, error: BaseException) -> None:
    """The curves of a training that was stopped, by its user or by what the user can mend."""
    if _curves.cache_info().currsize:
        _curves().failed(task, error)
