"""What an evaluation leaves: for people a table and a contact sheet, for programs JSON."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Protocol

from PIL import Image
from rich.console import Console
from rich.table import Table

from muse_studio.images.provenance import Provenance, write_png
from muse_studio.runtime.files import claim_folder, path_of, replacing

METRICS, SHEET = "metrics.json", "sheet.png"
"""What an evaluation writes."""
WIDTH = 88
"""Letters of a table's line."""


class Measured(Protocol):
    """The result of an evaluation, of whichever kind."""

    sheet: Image.Image

    def to_json(self) -> str:
        """Its numbers and their definitions."""


def open_folder(out: str, task: str) -> Path:
    """An evaluation's own folder; UserError where it can't be written, or another's files would be replaced."""
    return claim_folder(path_of(out), "out", task, (METRICS, SHEET))


def write(result: Measured, out: Path, provenance: Provenance) -> list[Path]:
    """Write metrics.json and sheet.png into a folder, each whole or not at all, and return both."""
    metrics, sheet = out / METRICS, out / SHEET
    write_png(result.sheet, sheet, provenance)
    with replacing(metrics) as aside:
        aside.write_text(result.to_json(), encoding="utf-8")
    return [metrics, sheet]


def to_text(tables: list[Table], paths: list[Path]) -> str:
    """Tables as text, and behind them the files, a line each."""
    text = io.StringIO()
    console = Console(file=text, width=WIDTH)
    for table in tables:
        console.print(table)
    return "\n".join([text.getvalue().rstrip(), *map(str, paths)])
