"""The index of a folder of token shards: its files, its records' tensors, and what they were made of."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from dataclasses import dataclass, field
from typing import Any

import torch

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.files import file_name
from muse_training.data.encoder import Encoder, States
from muse_training.data.fingerprint import part_fingerprint
from muse_training.data.storage import StorageFolder

INDEX = "index.json"
"""The file that is written last: a folder without it is not finished."""
FORMAT = 1
SHARDS = ".safetensors"


@dataclass
class Shard:
    """One file: its name, the records in it, its length in bytes."""

    file: str
    records: int
    bytes: int


@dataclass
class TensorSpec:
    """One tensor of a record: torch's name of its type, and its shape."""

    dtype: str
    shape: list[int]

    @property
    def bytes(self) -> int:
        """What it takes a record."""
        return getattr(torch, self.dtype).itemsize * math.prod(self.shape)


@dataclass(repr=False)
class StageTokens:
    """What a stage's tokens are: of pictures of that size, on that grid, of so many codes, by which tokenizer."""

    size: list[int]
    grid: list[int]
    codes: int
    tokenizer: str

    def __repr__(self) -> str:
        """A text that is part of format 1: `made_of` is a hash of it, by which tokens made before are found again."""
        return f"Spoken(size={self.size}, grid={self.grid}, codes={self.codes}, tokenizer={self.tokenizer!r})"


@dataclass
class TokenIndex:
    """The content of index.json.

    made_of: a short name for all that determines the records: the same one is never made twice.
    left_out: how many pictures could not be used; fields: each tensor of a record, by name.
    stages: by name, the lowest resolution first. text: the text encoder's fingerprint. states: how its states are kept.
    recipe: the run's, resolved; empty where it was no recipe's.
    """

    made_of: str
    records: int
    left_out: int
    fields: dict[str, TensorSpec]
    stages: dict[str, StageTokens]
    text: str
    states: States
    shards: list[Shard]
    recipe: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, folder: StorageFolder) -> None:
        """Finish a folder."""
        folder.write(INDEX, json.dumps(dataclasses.asdict(self), indent=1).encode())

    @classmethod
    def read(cls, folder: StorageFolder) -> TokenIndex:
        """The index of a finished folder; UserError, saying how to go on, where there is none or it is damaged."""
        if not folder.has(INDEX):
            if made := sum(name.endswith(SHARDS) for name in folder.names()):
                raise UserError(
                    f"{folder} holds {made} shards of tokens and no {INDEX}: it is not finished. The command that "
                    f"began it goes on where it stopped, such as: muse run prepare-tokens out={folder}"
                )
            raise UserError(f"there are no tokens at {folder}; make them by: muse run prepare-tokens out={folder}")
        try:
            table = json.loads(folder.read(INDEX))
            if table["format"] != FORMAT:
                raise ValueError(f"format {table['format']}, where {FORMAT} is read")
            shards = [Shard(**each) for each in table["shards"]]
            parts = {
                "fields": {name: TensorSpec(**each) for name, each in table["fields"].items()},
                "stages": {name: StageTokens(**each) for name, each in table["stages"].items()},
                "shards": shards,
            }
            for shard in shards:
                file_name(shard.file, folder.join(INDEX))
            return cls(**table | parts)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            why = words_of(error)
            raise UserError(
                f"{folder.join(INDEX)} is damaged or another version's ({why}); delete it, and the command that made "
                f"it makes it again, such as: muse run prepare-tokens out={folder}"
            ) from error

    def check(self, folder: StorageFolder, encoder: Encoder, recipe: dict[str, Any]) -> None:
        """UserError, saying what differs and how to make the right ones, where an encoder would give other tokens."""
        problems: list[str] = []
        settings: dict[str, Any] = {}
        stages = recipe.get("stages", {})
        for name, wanted in stage_tokens(encoder).items():
            if (found := self.stages.get(name)) is None:
                problems.append(f"they have no stage {name!r}, but {', '.join(self.stages)}")
                settings[f"stages.{name}"] = stages.get(name)
            elif difference := _difference(found, wanted):
                problems.append(f"stage {name!r}: {difference}")
                settings |= {f"stages.{name}.{key}": stages.get(name, {}).get(key) for key in ("tokenizer", "size")}
        if self.text != part_fingerprint(encoder.text_encoder):
            problems.append("they are of another text encoder")
            settings["text_encoder"] = recipe.get("text_encoder")
        if problems:
            settings["dataset"] = self.recipe.get("dataset")
            words = [f"{key}={_flow(value)}" for key, value in settings.items() if value is not None]
            line = shlex.join(["muse", "run", "prepare-tokens", f"out={folder}-2", *words])
            raise UserError(
                f"the tokens at {folder} are not this recipe's: {'; '.join(problems)}. To make those: {line}"
            )


def stage_tokens(encoder: Encoder) -> dict[str, StageTokens]:
    """What the tokens of an encoder's stages are."""
    return {
        name: StageTokens(
            [stage.height, stage.width],
            list(stage.grid),
            stage.tokenizer.codebook_size,
            part_fingerprint(stage.tokenizer),
        )
        for name, stage in encoder.stages.items()
    }


def _difference(found: StageTokens, wanted: StageTokens) -> str:
    if found.grid != wanted.grid:
        here, there = ("x".join(map(str, each.grid)) for each in (wanted, found))
        return f"their grid is {there} tokens, the recipe's {here}"
    if found.size != wanted.size:
        here, there = ("x".join(map(str, each.size)) for each in (wanted, found))
        return f"they are of pictures of {there} pixels, the recipe's of {here}"
    if (found.codes, found.tokenizer) != (wanted.codes, wanted.tokenizer):
        return "they are of another tokenizer, or of other weights"
    return ""


def _flow(value: Any) -> str:
    """A setting as YAML in one line."""
    return value if isinstance(value, str) else json.dumps(value)
