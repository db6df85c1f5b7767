"""The masked transformer, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_transformers():
    """Muse's base model."""
    return {"muse": "muse_transformer.muse:MuseTransformer"}
