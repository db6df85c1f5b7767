"""Which dialects there are, by name, and which are known but not done."""

from __future__ import annotations

from importlib import import_module

from muse_studio.errors import UserError
from muse_weights.dialect import Dialect

DONE = {
    "amused": "muse_weights.amused:AMUSED",
    "halton-maskgit": "muse_weights.halton:HALTON_MASKGIT",
    "llamagen-vq": "muse_weights.tokenizers:LLAMAGEN_VQ",
    "maskgit-256": "muse_weights.maskgit:TORCH_256",
    "maskgit-256-flax": "muse_weights.maskgit:FLAX_256",
    "maskgit-512": "muse_weights.maskgit:TORCH_512",
    "maskgit-512-flax": "muse_weights.maskgit:FLAX_512",
    "maskgit-vqgan": "muse_weights.tokenizers:MASKGIT_VQGAN",
    "maskgit-vqgan-flax": "muse_weights.maskgit_vqgan:FLAX_VQGAN",
    "muse-pytorch": "muse_weights.muse_pytorch:TEXT",
    "muse-pytorch-class": "muse_weights.muse_pytorch:CLASS",
    "open-magvit2": "muse_weights.magvit2:OPEN_MAGVIT2",
    "taming-vqgan": "muse_weights.tokenizers:TAMING_VQGAN",
}
"""Where the table of each dialect is."""

NOT_DONE = {
    "maskbit": "MaskBit's tokenizers and transformers",
    "maskgen": "MaskGen's transformers",
    "meissonic": "Meissonic and Monetico",
    "titok": "TiTok and TA-TiTok",
}
"""Dialects that are refused by name."""


def dialect(name: str) -> Dialect:
    """The dialect of that name; ValueError, naming those that there are, where it is none or not done."""
    if name in NOT_DONE:
        raise ValueError(
            f"format is {name!r}: {NOT_DONE[name]}, which can't be imported yet; these can: {', '.join(DONE)}"
        )
    if name not in DONE:
        raise ValueError(f"format is {name!r}, which is none; available: {', '.join(DONE)}")
    module, _, attribute = DONE[name].partition(":")
    return getattr(import_module(module), attribute)


def refusal(name: str, error: UserError) -> UserError:
    """What a source lacks, with the format that it was taken for: often the wrong one was named."""
    return UserError(f"{error} (it was read as format {name!r}; available: {', '.join(DONE)})")
