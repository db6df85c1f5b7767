"""aMUSEd in small, whose text encoder stands for CLIP here."""

from published_amused import imported, published  # noqa: F401
