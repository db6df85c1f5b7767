"""Offers what Halton-MaskGIT is made of; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_transformers():
    """`halton-maskgit`, which the class modulates in each layer."""
    return {"halton-maskgit": "muse_halton.transformer:HaltonMaskGIT"}


@hookimpl
def muse_samplers():
    """`halton`, whose order spreads over the plane."""
    return {"halton": "muse_halton.sampler:Halton"}


@hookimpl
def muse_dialects():
    """Its authors' files, and those of version 0.1."""
    return {
        "halton-maskgit": "muse_halton.dialect:halton_maskgit",
        "halton-maskgit-0.1": "muse_halton.former:halton_maskgit_0_1",
    }
