"""Offers MUSE-Pytorch's transformers and their published weights; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_transformers():
    """`uvit` reads text, `uvit-class` is given a class by a token."""
    return {"uvit": "muse_uvit.transformer:UViT", "uvit-class": "muse_uvit.transformer:ClassUViT"}


@hookimpl
def muse_dialects():
    """The files of its text-to-image and of its class-conditional model, and those of version 0.1."""
    return {
        "muse-pytorch": "muse_uvit.dialect:muse_pytorch",
        "muse-pytorch-class": "muse_uvit.dialect:muse_pytorch_class",
        "uvit-0.1": "muse_uvit.former:uvit_0_1",
    }
