"""What a folder of token shards says of itself: lengths, names, sizes, types, and what it was made of."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from dataclasses import dataclass, field
from typing import Any

import torch

from muse_studio.errors import UserError
from muse_training.data.fingerprint import of_part
from muse_training.data.records import Encoder, States
from muse_training.data.store import Store

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
class Field:
    """One tensor of a record: torch's name of its type, and its shape."""

    dtype: str
    shape: list[int]

    @property
    def bytes(self) -> int:
        """What it takes a record."""
        return getattr(torch, self.dtype).itemsize * math.prod(self.shape)


@dataclass
class Spoken:
    """What a stage's tokens are: of pictures of that size, on that grid, of so many codes, by which tokenizer."""

    size: list[int]
    grid: list[int]
    codes: int
    tokenizer: str


@dataclass
class Index:
    """The content of index.json.

    made_of: a short name for all that determines the records: the same one is never made twice.
    left_out: how many pictures could not be used; fields: each tensor of a record, by name.
    stages: by name, the lowest resolution first. text: the text encoder's fingerprint. states: how its states are kept.
    recipe: the run's, resolved; empty where it was no recipe's.
    """

    made_of: str
    records: int
    left_out: int
    fields: dict[str, Field]
    stages: dict[str, Spoken]
    text: str
    states: States
    shards: list[Shard]
    recipe: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, store: Store) -> None:
        """Finish a folder."""
        store.write(INDEX, json.dumps(dataclasses.asdict(self), indent=1).encode())

    @classmethod
    def read(cls, store: Store) -> Index:
        """The index of a finished folder; UserError, saying how to go on, where there is none or it is damaged."""
        if not store.has(INDEX):
            if made := sum(name.endswith(SHARDS) for name in store.names()):
                raise UserError(
                    f"{store} holds {made} shards of tokens and no {INDEX}: it is not finished. The command that began "
                    f"it goes on where it stopped, such as: muse run prepare-tokens out={store}"
                )
            raise UserError(f"there are no tokens at {store}; make them by: muse run prepare-tokens out={store}")
        try:
            table = json.loads(store.read(INDEX))
            if table["format"] != FORMAT:
                raise ValueError(f"format {table['format']}, where {FORMAT} is read")
            parts = {
                "fields": {name: Field(**each) for name, each in table["fields"].items()},
                "stages": {name: Spoken(**each) for name, each in table["stages"].items()},
                "shards": [Shard(**each) for each in table["shards"]],
            }
            return cls(**table | parts)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{store.join(INDEX)} is damaged or another version's ({error}); delete it, and the command that made "
                f"it makes it again, such as: muse run prepare-tokens out={store}"
            ) from error

    def check(self, store: Store, encoder: Encoder, recipe: dict[str, Any]) -> None:
        """UserError, saying what differs and how to make the right ones, where an encoder would give other tokens."""
        reported: list[str] = []
        settings: dict[str, Any] = {}
        stages = recipe.get("stages", {})
        for name, wanted in spoken(encoder).items():
            if (found := self.stages.get(name)) is None:
                reported.append(f"they have no stage {name!r}, but {', '.join(self.stages)}")
                settings[f"stages.{name}"] = stages.get(name)
            elif differing := _differing(found, wanted):
                reported.append(f"stage {name!r}: {differing}")
                settings |= {f"stages.{name}.{key}": stages.get(name, {}).get(key) for key in ("tokenizer", "size")}
        if self.text != of_part(encoder.text_encoder):
            reported.append("they are of another text encoder")
            settings["text_encoder"] = recipe.get("text_encoder")
        if reported:
            settings["dataset"] = self.recipe.get("dataset")
            words = [f"{key}={_flow(value)}" for key, value in settings.items() if value is not None]
            line = shlex.join(["muse", "run", "prepare-tokens", f"out={store}-2", *words])
            raise UserError(
                f"the tokens at {store} are not this recipe's: {'; '.join(reported)}. To make those: {line}"
            )


def spoken(encoder: Encoder) -> dict[str, Spoken]:
    """What the tokens of an encoder's stages are."""
    return {
        name: Spoken(
            [stage.height, stage.width], list(stage.grid), stage.tokenizer.codebook_size, of_part(stage.tokenizer)
        )
        for name, stage in encoder.stages.items()
    }


def _differing(found: Spoken, wanted: Spoken) -> str:
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
