"""Says that something must be refused, and with which error; contract tests need no pytest for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def refuses(error: type[Exception], what: str) -> Iterator[None]:
    """AssertionError unless the body raises `error` with a message that says something."""
    try:
        yield
    except error as refusal:
        assert str(refusal).strip(), f"{what}: {error.__name__} has no message; say what was expected and what was got"
    else:
        raise AssertionError(f"{what} went through; it must raise {error.__name__}")
