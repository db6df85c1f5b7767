"""Offers MaskGIT's transformer and later ones, and the text encoder `class` for them; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_text_encoders():
    """`class` reads a class's number or name."""
    return {"class": "muse_maskgit.classes:Class"}


@hookimpl
def muse_transformers():
    """`maskgit` and `uvit-class` are told of a class by a token, `halton-maskgit` in each layer; `uvit` reads text."""
    return {
        "halton-maskgit": "muse_maskgit.halton:HaltonMaskGIT",
        "maskgit": "muse_maskgit.transformer:MaskGIT",
        "uvit": "muse_maskgit.uvit:UViT",
        "uvit-class": "muse_maskgit.uvit:ClassUViT",
    }
