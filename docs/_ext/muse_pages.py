"""The Sphinx extension that makes the pages which are read off the code: hooks, recipes, errors.

They are written to `docs/reference/`, which is not committed, before Sphinx reads the sources; docstrings are turned
into reStructuredText for autodoc.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import error_page
import hook_pages
import recipe_page
from docstrings import restructured

from muse_studio.registry.plugins import Registry

FOLDER = "reference"
ERRORS = Path("tests", "core", "cli", "refusals.yaml")


def generated(root: Path) -> dict[str, str]:
    """Every generated page of the checkout at `root`, by its name."""
    pages = hook_pages.pages(Registry())
    pages["shipped-recipes"] = recipe_page.page()
    pages["errors"] = error_page.page(root / ERRORS)
    return pages


def write(folder: Path, pages: dict[str, str]) -> None:
    """Write the pages, and only those that differ, so that a server which watches the folder comes to rest."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", _make)
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _make(app: Any) -> None:
    source = Path(app.srcdir)
    write(source / FOLDER, generated(source.parent))


def _process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = restructured("\n".join(lines))
