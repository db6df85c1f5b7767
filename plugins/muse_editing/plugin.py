"""Offers Muse's zero-shot editors; imports no torch."""

from muse_studio.hookspecs import hookimpl


@hookimpl
def muse_editors():
    """The editors by name."""
    return {
        "inpaint": "muse_editing.editors:Inpaint",
        "mask-free": "muse_editing.editors:MaskFree",
        "variations": "muse_editing.editors:Variations",
    }
