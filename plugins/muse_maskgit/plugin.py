"""Offers MaskGIT's transformer, the text encoder `class` and MaskGIT's published weights; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_text_encoders():
    """`class` reads a class's number or name."""
    return {"class": "muse_maskgit.classes:Class"}


@hookimpl
def muse_transformers():
    """`maskgit` is given a class by a token."""
    return {"maskgit": "muse_maskgit.transformer:MaskGIT"}


@hookimpl
def muse_dialects():
    """Its authors' flax checkpoints, their conversion maskgit-torch, and files of version 0.1."""
    return {
        "maskgit-0.1": "muse_maskgit.former:maskgit_0_1",
        "maskgit-256": "muse_maskgit.dialect:torch_256",
        "maskgit-256-flax": "muse_maskgit.dialect:flax_256",
        "maskgit-512": "muse_maskgit.dialect:torch_512",
        "maskgit-512-flax": "muse_maskgit.dialect:flax_512",
    }
