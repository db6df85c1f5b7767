"""The gallery: pictures on disk with an index, found by their words, and a bin for those that are thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Gallery:
    """The pictures of a folder; any thread may call any method."""

    def __init__(self, folder: Path) -> None: ...

    def add(self, png: bytes, seed: int | None, prompt: str, *, session: str | None = None) -> str:
        """Keep a PNG, which is written as it is; its id."""
        raise NotImplementedError

    def listed(self, words: str = "", before: str | None = None, limit: int = 60) -> list[dict[str, Any]]:
        """The newest first."""
        raise NotImplementedError

    def path(self, id: str) -> Path:
        """A picture's file; NotFound where there is none."""
        raise NotImplementedError

    def delete(self, id: str) -> None:
        """Move a picture to the bin."""
        raise NotImplementedError
