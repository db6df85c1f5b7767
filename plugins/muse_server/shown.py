"""Texts without the places of this machine, for those who ask over the network."""

from __future__ import annotations

import re
import sys
import tempfile
from functools import cache
from pathlib import Path

LEFT_OUT = "…"
"""What stands for a place."""

_NAME = r"[\w.@+~-]+"
_PATH = re.compile(
    rf"(?<![\w.:/~])(?:/{_NAME}(?:/{_NAME})+|~[/\\]{_NAME}|[A-Za-z]:[/\\]{_NAME})(?:[/\\]{_NAME})*[/\\]?"
    r"|(?<![\w.:/])[\w.-]+(?:[/\\][\w.-]+)*[/\\][\w-]+\.[a-z][a-z0-9]{1,11}\b"  # studio/gallery/x.png
)
"""A file or folder: of the whole machine, of somebody's home, of a drive; or a file below where we are."""
_REST = re.compile(rf"{LEFT_OUT}(?:[/\\][^\s'\",;:()]*)+")


def without_paths(text: str) -> str:
    """A text in which no file or folder of this machine is named; addresses with a scheme stay."""
    for root in _roots():
        text = text.replace(root, LEFT_OUT)
    return _PATH.sub(LEFT_OUT, _REST.sub(LEFT_OUT, text))


@cache
def _roots() -> list[str]:
    """The folders below which this program's and its user's files lie; spaces in them are no trouble so."""
    folders = {Path.cwd(), Path.home(), Path(sys.prefix), Path(tempfile.gettempdir()), Path(__file__).parents[2]}
    return sorted((str(each) for each in folders if len(each.parts) > 1), key=len, reverse=True)
