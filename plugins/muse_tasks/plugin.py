"""The tasks that a recipe runs: drawing, editing, measuring, and sweeps over settings."""

from __future__ import annotations

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks() -> dict[str, str]:
    """`generate` draws, `edit` changes a picture, `evaluate` measures a model, `sweep` runs a recipe many ways."""
    return {
        "generate": "muse_tasks.generate:Generate",
        "edit": "muse_tasks.edit:Edit",
        "evaluate": "muse_tasks.evaluate:Evaluate",
        "sweep": "muse_tasks.sweep:Sweep",
    }
