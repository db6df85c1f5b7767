"""The import of published weights, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tasks():
    """`import-weights` makes published weights ours; `generate-published` does so once, and draws."""
    return {
        "generate-published": "muse_weights.published:GeneratePublished",
        "import-weights": "muse_weights.task:ImportWeights",
    }
