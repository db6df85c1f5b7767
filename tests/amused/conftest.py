"""aMUSEd in small, published by diffusers and imported."""

from published_amused import imported, pipe, published, twin  # noqa: F401
