"""The tasks that a recipe runs: drawing, editing, measuring, and sweeps over settings."""

from __future__ import annotations

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks() -> dict[str, str]:
    """`generate` draws, `edit` changes a picture, `canvas` plays a canvas's actions; `evaluate` and `evaluate-edits`
    measure, `sweep` runs many ways.
    """
    return {
        "generate": "muse_tasks.generate.task:Generate",
        "edit": "muse_tasks.edit.task:Edit",
        "canvas": "muse_tasks.canvas.task:PlayCanvas",
        "evaluate": "muse_tasks.evaluate.task:Evaluate",
        "evaluate-edits": "muse_tasks.evaluate.edits:EvaluateEdits",
        "sweep": "muse_tasks.sweep.task:Sweep",
    }
