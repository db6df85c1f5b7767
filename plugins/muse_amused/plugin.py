"""Offers what aMUSEd is made of; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_transformers():
    """The U-ViT of aMUSEd."""
    return {"amused": "muse_amused.transformer:Amused"}


@hookimpl
def muse_samplers():
    """The loop of its scheduler."""
    return {"amused": "muse_amused.sampler:Amused"}


@hookimpl
def muse_dialects():
    """diffusers' folders of it, and files of version 0.1."""
    return {"amused": "muse_amused.dialect:amused", "amused-0.1": "muse_amused.former:amused_0_1"}
