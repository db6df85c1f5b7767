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

    def part(self, use: str, piece: str) -> dict[str, Any]:
        """The table of a part: its settings and the address of its file."""
        return {"use": use, **self.settings[piece], "weights": str(self.folder / f"{piece}.safetensors")}

    @property
    def size(self) -> int:
        """Pixels of a picture's side, by the transformer's grid and the levels of a tokenizer that is a VQGAN."""
        stride = 2 ** (len(self.settings["tokenizer"]["multipliers"]) - 1)
        return self.settings["transformer"]["grid"][0] * stride


def model_and_drawing(base: Settings, text_encoder: Settings, prompt: str) -> Recipes:
    """The recipes of a model of one stage: the model itself, and one that draws that prompt with it."""
    return {
        "model.yaml": {"stages": {"base": base}, "text_encoder": text_encoder},
        "generate.yaml": {"extends": "model.yaml", "use": "generate", "prompt": prompt},
    }


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
