"""Offers Open-MAGVIT2's tokenizer and its published weights; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_tokenizers():
    """`magvit2`, whose codes are signs."""
    return {"magvit2": "muse_magvit2.tokenizer:Magvit2"}


@hookimpl
def muse_dialects():
    """Its authors' files."""
    return {"open-magvit2": "muse_magvit2.dialect:open_magvit2"}
