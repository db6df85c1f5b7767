"""Writes the recipes that belong to imported weights."""

from __future__ import annotations

from pathlib import Path

from muse_studio.recipe.tree import to_yaml
from muse_studio.runtime.dialects import Recipes
from muse_studio.runtime.files import file_name


def write(folder: Path, recipes: Recipes, source: str, format: str) -> list[str]:
    """Each recipe as a file of the folder, with a head that says where it comes from; the files' names, in order."""
    for name, table in recipes.items():
        head = f"# {name} -- weights of {source}, imported by `muse run import-weights format={format}`.\n"
        (folder / file_name(name, f"format {format}")).write_text(head + to_yaml(table), encoding="utf-8")
    return list(recipes)
