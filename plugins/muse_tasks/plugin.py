"""The tasks that a recipe runs: pictures from prompts, and the measure of a model."""

from __future__ import annotations

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks() -> dict[str, str]:
    """`generate` draws pictures, `edit` changes one, `evaluate` and `evaluate-edits` measure how well."""
    return {
        "generate": "muse_tasks.generate:Generate",
        "edit": "muse_tasks.edit:Edit",
        "evaluate": "muse_tasks.evaluate:Evaluate",
        "evaluate-edits": "muse_tasks.evaluate_edits:EvaluateEdits",
    }
