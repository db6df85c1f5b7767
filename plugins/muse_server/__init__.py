"""A page to draw on, and a server that other programs can ask: the task `studio`; and its board for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muse_server.notebook.board import Board as Board


def __getattr__(name: str) -> Any:
    """`Board`, which is imported when it is asked for; UserError without the extra `widget`."""
    if name != "Board":
        raise AttributeError(f"module 'muse_server' has no attribute {name!r}")
    try:
        import anywidget  # noqa: F401
    except ImportError as error:
        from muse_studio.errors import UserError

        line = "pip install 'muse-studio[widget]'"
        raise UserError(f"a board in a notebook needs the package anywidget ({error}): {line}") from error
    from muse_server.notebook.board import Board

    return Board
