"""A published layout as a whole: its pieces, what tells it from others, and the recipe that draws with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from muse_weights.table import Piece, Settings

Tables = Mapping[str, Settings]
Recipes = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Copied:
    """Files that are kept as they are, in a folder of that name: a text encoder that transformers reads.

    files: by their names in the new folder, those in the source. optional: which of them need not be there.
    """

    name: str
    files: Mapping[str, str]
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Imported:
    """What the recipes of an imported model are made of.

    folder: where it all will lie. settings: of each piece's part, and of those that are given, by name.
    """

    folder: Path
    settings: Tables

    def weights(self, piece: str) -> str:
        """The address of a piece's file."""
        return str(self.folder / f"{piece}.safetensors")


@dataclass(frozen=True)
class Dialect:
    """One published layout.

    about: what has it. told: JSON files that must say these things, else it is another model's.
    recipes: the recipes to write beside the weights, by their files' names; the first one is the model.
    given: parts that are taken as they are published, and not imported: their settings by name, `model` being where.
    further: tensors of a piece that no file has, made of what was written before it, which lies in the given folder,
        and of the settings of all pieces.
    """

    about: str
    pieces: tuple[Piece, ...]
    recipes: Callable[[Imported], Recipes]
    told: Tables = field(default_factory=dict)
    copied: tuple[Copied, ...] = ()
    given: Tables = field(default_factory=dict)
    further: Mapping[str, Callable[[Path, Tables], dict[str, Tensor]]] = field(default_factory=dict)
