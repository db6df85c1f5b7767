"""Observers that people want beside what tasks show and log themselves."""

from __future__ import annotations

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_observers() -> dict[str, str]:
    """`preview` shows what is being drawn, `wandb` logs to Weights & Biases, `word-filter` refuses prompts."""
    return {
        "preview": "muse_observers.preview:Preview",
        "wandb": "muse_observers.weights_and_biases:WeightsAndBiases",
        "word-filter": "muse_observers.words:WordFilter",
    }
