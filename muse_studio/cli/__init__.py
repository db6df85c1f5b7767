"""What a user types: the muse command."""

from muse_studio.cli.commands import main

__all__ = ["main"]
