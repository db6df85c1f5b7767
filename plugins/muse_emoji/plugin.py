"""The emoji data set, as a plugin."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_datasets():
    """Captioned emoji art in seven styles."""
    return {"emoji": "muse_emoji.dataset:Emoji"}
