"""What a published layout is made of: the table of each of its files, and the recipes that draw with what was read.

`muse_studio.runtime.matching` holds a file's names and shapes against a table. Nothing here imports torch when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from muse_studio.runtime.former import FormerNames

Settings = Mapping[str, Any]
Tables = Mapping[str, Settings]
Recipes = dict[str, dict[str, Any]]
Change = Literal["", "linear", "flat", "transposed", "convolution", "to_heads", "from_heads"]
"""What becomes of a tensor, by its name in `muse_studio.runtime.matching.CHANGES`."""

IMAGENET = "hf://datasets/huggingface/label-files/imagenet-1k-id2label.json"
"""The names of ImageNet's classes, for the text encoder `class`; fetched when the first one is asked for."""


@dataclass(frozen=True)
class Rule:
    """One line of a table: a tensor whose whole name matches becomes ours.

    pattern: a regular expression. name: ours, with \\1 and so on for what the pattern's groups found.
    change: what becomes of its numbers, by CHANGES.
    block: several tensors may have one name of ours, and are then stacked along the first axis in this order.
    """

    pattern: str
    name: str
    change: Change = ""
    block: int = 0


@dataclass(frozen=True)
class Found:
    """What a piece's settings are read from.

    config: its config.json. shapes: of its tensors, by their published names. configs: JSON files that were read
    before, by their names in the source.
    """

    config: Settings
    shapes: Mapping[str, list[int]]
    configs: Tables


@dataclass(frozen=True)
class Piece:
    """One file of weights of a dialect, and the part of ours that it is for.

    name: "transformer". file: what is written, transformer.safetensors by default.
    folder, weights: its folder in the source, "" at the top, and its file, in one or in shards, "" where the source is
        itself a file.
    kind, part: "transformer", "amused".
    rules: the first that matches counts. drop: patterns of names that are left out, and why that is right.
    averages: what the names of moving averages begin with, the rest being a tensor's name without its dots; where there
        are any, they are taken in the tensors' places.
    copies: names that are left out as they hold what another name holds, by that name; checked.
    expected: what config.json must say, and what all of ours say too, so that they are no settings.
    defaults: what config.json means where it says nothing.
    settings: our part's; LookupError where config.json lacks one, ValueError where ours can't be like that.
    places: where modules stand in our part, by the names that the rules give them, where that depends on its depth.
    home: an address of its own, where it is published separately from the rest.
    unwrap: under which keys of a file the tensors lie: of a tree the first that is there counts, of a file of torch's
        the first of those tables of which the rules know as many names. Usual ones need not be said.
    prefixes: what names may begin with, one after the other, and says nothing, such as "vqgan."; what wraps every
        trainer's models (`muse_studio.runtime.wrappers`) need not be said.
    starts: tensors of ours that no file has, and the number that they are filled with.
    made: tensors of ours that no file has, and that the dialect makes of other files.
    shapes: the tensors of ours, from config.json, where the part itself is not made to be asked.
    """

    name: str
    kind: str
    part: str
    weights: str
    rules: tuple[Rule, ...]
    settings: Callable[[Found], dict[str, Any]]
    folder: str = ""
    file: str = ""
    drop: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    expected: Settings = field(default_factory=dict)
    defaults: Settings = field(default_factory=dict)
    places: Callable[[Settings], Mapping[str, str]] | None = None
    home: str = ""
    unwrap: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    averages: str = ""
    starts: Mapping[str, float] = field(default_factory=dict)
    made: tuple[str, ...] = ()
    shapes: Callable[[Settings], dict[str, list[int]]] | None = None

    @property
    def written(self) -> str:
        """The file of ours."""
        return self.file or f"{self.name}.safetensors"


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


@dataclass(frozen=True)
class Dialect:
    """One published layout: a `muse_studio.contracts.Dialect`.

    name: as a recipe writes it; an import that is kept is known by it.
    recipes: the recipes to write beside the weights, by their files' names; the first one is the model.
    declares: JSON files that must say these things, else it is another model's.
    given: parts that are taken as they are published, and not imported: their settings by name, `model` being where.
    further: tensors of a piece that no file has, made of what was written before it, which lies in the given folder,
        and of the settings of all pieces.
    former: renames files of an earlier version of muse_studio, whatever they hold; there are no pieces then.
    """

    name: str
    pieces: tuple[Piece, ...]
    recipes: Callable[[Imported], Recipes]
    declares: Tables = field(default_factory=dict)
    copied: tuple[Copied, ...] = ()
    given: Tables = field(default_factory=dict)
    further: Mapping[str, Callable[[Path, Tables], dict[str, Tensor]]] = field(default_factory=dict)
    former: FormerNames | None = None


def renamed(former: FormerNames) -> Dialect:
    """The dialect of an earlier version's names; its one recipe is the table of a file's part, where the file tells it.

    A file that was imported says how its part was set, one that was trained the whole recipe, the part's table in it.
    """

    def recipes(imported: Imported) -> Recipes:
        tables = ((file, _table(settings)) for file, settings in imported.settings.items())
        written = [{**table, "weights": str(imported.folder / file)} for file, table in tables if table]
        return {"model.yaml": written[0]} if written else {}

    return Dialect(former.format, (), recipes, former=former)


def _table(settings: Settings) -> Settings:
    if "stages" not in settings:
        return settings if "use" in settings else {}
    stages = settings["stages"]
    stage = stages[settings.get("stage") or next(iter(stages))]
    return stage["sampler"]["critic"] if settings.get("critic") else stage["transformer"]


def single_part(name: str, piece: Piece) -> Dialect:
    """The dialect of one part, for other recipes to take as in `tokenizer: {extends: FOLDER/model.yaml}`."""
    return Dialect(name, (piece,), lambda imported: {"model.yaml": imported.part(piece.part, piece.name)})


def model_and_drawing(base: Settings, text_encoder: Settings, prompt: str) -> Recipes:
    """The recipes of a model of one stage: the model itself, and one that draws that prompt with it."""
    return {
        "model.yaml": {"stages": {"base": base}, "text_encoder": text_encoder},
        "generate.yaml": {"extends": "model.yaml", "use": "generate", "prompt": prompt},
    }
