"""A progress bar on stderr, where somebody watches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """`items` again, with a bar that says `what`; silent where stderr is no terminal."""
    console = Console(stderr=True)
    total = len(items) if total is None and isinstance(items, Sized) else total
    return iter(track(items, what, total=total, console=console, disable=not console.is_terminal))
