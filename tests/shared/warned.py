"""Our warnings, whatever else is warned of beside them, such as a file of another test that is collected only now."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heard() -> Iterator[list[str]]:
    """Holds, at its end, the texts of the UserWarnings of the block."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as everything:
        warnings.simplefilter("always")
        yield told
    told.extend(str(each.message) for each in everything if issubclass(each.category, UserWarning))


@contextmanager
def warned(match: str) -> Iterator[list[str]]:
    """As `heard`, of the one text that has this pattern in it; AssertionError where none or several have it."""
    with heard() as everything:
        told: list[str] = []
        yield told
    told.extend(text for text in everything if re.search(match, text))
    assert len(told) == 1, f"{len(told)} of these have {match!r}: {everything}"
