"""The masked transformers, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_transformers():
    """Muse's base model and its super-resolution model."""
    return {"muse": "muse_transformer.muse:MuseTransformer", "superres": "muse_transformer.superres:SuperResolution"}
