"""Offers the text encoders t5, clip and minilm; nothing of them is imported before it is used."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_text_encoders():
    """The encoders by name."""
    return {
        "clip": "muse_text.clip:CLIP",
        "minilm": "muse_text.minilm:MiniLM",
        "t5": "muse_text.t5:T5",
    }
