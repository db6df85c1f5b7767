"""Whether a folder can be written to where nothing is yet."""

from __future__ import annotations

from pathlib import Path

from muse_studio.errors import UserError
from muse_studio.runtime.files import open_folder


def check_free(out: Path) -> None:
    """UserError where a folder can't be made there, or where there is something already."""
    open_folder(out.parent, "out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"out is {out}, which is there already; give another folder, or move it away")
