"""Offers MaskGIT's transformer and the text encoder `class`, by which a prompt is a class; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_text_encoders():
    """`class` reads a class's number or name."""
    return {"class": "muse_maskgit.classes:Class"}


@hookimpl
def muse_transformers():
    """Transformers that are told of a class: `maskgit` by a token in front of the grid."""
    return {"maskgit": "muse_maskgit.transformer:MaskGIT"}
