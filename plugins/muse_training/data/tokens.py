"""Tokens and text states that were made beforehand, as a data set: any record at once, from anywhere."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from muse_studio.errors import UserError, words_of
from muse_studio.registry.events import progress
from muse_training.data.encoder import Encoder
from muse_training.data.storage import StorageFolder
from muse_training.data.token_index import Shard, TokenIndex


class Record(dict[str, Any]):
    """A record without picture, which says so to whoever asks for one."""

    def __missing__(self, name: str) -> Any:
        raise UserError(
            f"the data set 'tokens' has no {name}, but {', '.join(self)}: it is for training a transformer; "
            "give a data set of pictures here, such as dataset={use: folder, path: pictures}"
        )


class Tokens(Dataset):
    """What prepare-tokens has made: each stage's tokens, and text states, of every picture.

    A record is `{"tokens.<stage>": int[h, w], "states": [T, D], "mask": bool[T]}`, `scale` [T] too where states are
    int8, `pooled` [P] where the text encoder has one, and `micro` [5] where the data set had. Shards of this machine
    are mapped, not read; those of another are copied into the cache folder, once, and then mapped.

    path: the folder, as prepare-tokens was given it: a path, s3://, gs://, hf://, or any other address of fsspec.
    """

    def __init__(self, path: str) -> None:
        self.folder = StorageFolder(path)

    def __getstate__(self) -> dict[str, Any]:
        """A process of its own maps the shards itself."""
        return {"folder": self.folder}

    @cached_property
    def index(self) -> TokenIndex:
        """What the folder says of itself; UserError where it is not there or not finished."""
        return TokenIndex.read(self.folder)

    def check(self, encoder: Encoder, recipe: dict[str, Any]) -> None:
        """UserError where these are not the tokens and text states that the encoder would give."""
        self.index.check(self.folder, encoder, recipe)

    def __len__(self) -> int:
        return self.index.records

    def __getitem__(self, index: int) -> Record:
        """One record's tensors, views of the mapped file."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        starts, shards = self._open
        shard = bisect.bisect_right(starts, index) - 1
        return Record({name: part[index - starts[shard]] for name, part in shards[shard].items()})

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch, each tensor with a leading B: torch's loader asks for all records of one at once."""
        starts, shards = self._open
        wanted = torch.as_tensor(indices)
        if not (wanted.ge(0) & wanted.lt(len(self))).all():
            raise IndexError(f"records {indices} of {len(self)}")
        places = torch.bucketize(wanted, torch.tensor(starts), right=True) - 1
        batch = {
            name: torch.empty(len(indices), *field.shape, dtype=getattr(torch, field.dtype))
            for name, field in self.index.fields.items()
        }
        for shard in places.unique().tolist():
            rows = (places == shard).nonzero().squeeze(1)
            within = wanted[rows] - starts[shard]
            for name, part in shards[shard].items():
                batch[name][rows] = part[within]
        return batch

    @cached_property
    def _open(self) -> tuple[list[int], list[dict[str, Tensor]]]:
        """Each shard's first record, and its tensors."""
        starts, shards, first = [], [], 0
        for shard in progress([each for each in self.index.shards if each.records], "opening shards of tokens"):
            starts.append(first)
            shards.append(self._map(shard))
            first += shard.records
        return starts, shards

    def _map(self, shard: Shard) -> dict[str, Tensor]:
        version = hashlib.sha256(f"{self.folder} {self.index.made_of} {shard.bytes}".encode()).hexdigest()[:16]
        path = self.folder.fetched(shard.file, version)
        if not path.is_file():
            raise self._refuse(shard, "is missing")
        if (found := path.stat().st_size) != shard.bytes:
            raise self._refuse(shard, f"has {found} bytes where {shard.bytes} were written")
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except SafetensorError as error:
            raise self._refuse(shard, f"is damaged ({words_of(error)})") from error
        wanted = {
            name: ([shard.records, *field.shape], getattr(torch, field.dtype))
            for name, field in self.index.fields.items()
        }
        if {name: (list(tensor.shape), tensor.dtype) for name, tensor in tensors.items()} != wanted:
            raise self._refuse(shard, "holds other tensors than its index says")
        return tensors

    def _refuse(self, shard: Shard, what: str) -> UserError:
        return UserError(
            f"{self.folder.join(shard.file)} {what}: delete it, and the command that made it makes it again, such as: "
            f"muse run prepare-tokens out={self.folder}"
        )
