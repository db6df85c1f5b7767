"""Offers what pixel art takes: parts of four kinds, which fit each other; imports nothing heavy."""

from muse_studio import hookimpl

requires_api = ">=1.2,<2"


@hookimpl
def muse_tokenizers() -> dict[str, str]:
    """A token is one art pixel, in one of 64 colours."""
    return {"palette": "muse_pixel_art.tokenizer:Palette"}


@hookimpl
def muse_transformers() -> dict[str, str]:
    """Predicts each colour channel by itself."""
    return {"colour-heads": "muse_pixel_art.transformer:ColourHeads"}


@hookimpl
def muse_datasets() -> dict[str, str]:
    """Sprites with captions, drawn when they are asked for."""
    return {"sprites": "muse_pixel_art.dataset:Sprites"}


@hookimpl
def muse_dialects() -> dict[str, str]:
    """Weights of a model with a head a channel."""
    return {"three-heads": "muse_pixel_art.dialect:three_heads"}
