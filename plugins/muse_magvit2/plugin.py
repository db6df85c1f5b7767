"""Offers Open-MAGVIT2's tokenizer; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tokenizers():
    """`magvit2`, whose codes are signs."""
    return {"magvit2": "muse_magvit2.tokenizer:Magvit2"}
