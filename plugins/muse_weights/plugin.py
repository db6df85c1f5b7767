"""Offers the tasks that apply dialects to published weights; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks():
    """`import-weights` makes published weights ours, `export-weights` back; `generate-published` imports and draws."""
    return {
        "export-weights": "muse_weights.export:ExportWeights",
        "generate-published": "muse_weights.published:GeneratePublished",
        "import-weights": "muse_weights.task:ImportWeights",
    }
