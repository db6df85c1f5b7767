"""Offers class-conditional transformers, and the text encoder `class` for them; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_text_encoders():
    """`class` reads a class's number or name."""
    return {"class": "muse_maskgit.classes:Class"}


@hookimpl
def muse_transformers():
    """`maskgit` is told of a class by a token in front of the grid, `halton-maskgit` in each layer."""
    return {
        "halton-maskgit": "muse_maskgit.halton:HaltonMaskGIT",
        "maskgit": "muse_maskgit.transformer:MaskGIT",
    }
