"""MaskGIT's reference, and another model's folder."""

import maskgit_reference
import pytest
from published_amused import published  # noqa: F401


@pytest.fixture(scope="session")
def reference():
    """MaskGIT in small, as its published code computes it."""
    return maskgit_reference
