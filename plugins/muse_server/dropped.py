"""What a dropped picture says, as values alone: its recipe is never run, nor anything that it names opened."""

from __future__ import annotations

from typing import Any

from PIL import Image

from muse_studio.sampling.cascade import Cascade


def opened(content: bytes) -> Image.Image:
    """A client's PNG, JPEG or WebP in mode RGB; UserError where it is none or too large."""
    raise NotImplementedError


def said(content: bytes, model: Cascade) -> dict[str, Any] | None:
    """What a picture says of how it was drawn, that this model can use; None where it says nothing."""
    raise NotImplementedError
