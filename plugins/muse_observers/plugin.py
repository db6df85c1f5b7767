"""Observers that people want beside what tasks show and log themselves."""

from __future__ import annotations

from muse_studio.hookspecs import hookimpl


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
