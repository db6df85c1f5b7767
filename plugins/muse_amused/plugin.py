"""aMUSEd's transformer, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_transformers():
    """The U-ViT of aMUSEd."""
    return {"amused": "muse_amused.transformer:Amused"}
