"""A folder that is written as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muse_studio.errors import UserError
from muse_studio.runtime.files import open_folder


def check_free(out: Path) -> None:
    """UserError where a folder can't be made there, or where there is something already."""
    open_folder(out.parent, "out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"out is {out}, which is there already; give another folder, or move it away")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write to, which takes its place at the end, and vanishes where that fails."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        yield aside
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
