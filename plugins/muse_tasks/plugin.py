"""The tasks that a recipe runs: pictures from prompts, the measure of a model, and sweeps over settings."""

from __future__ import annotations

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks() -> dict[str, str]:
    """`generate` draws pictures, `evaluate` measures a model, `sweep` runs a recipe with many settings."""
    return {
        "generate": "muse_tasks.generate:Generate",
        "evaluate": "muse_tasks.evaluate:Evaluate",
        "sweep": "muse_tasks.sweep:Sweep",
    }
