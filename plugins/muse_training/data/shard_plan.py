"""Which shards a data set is written to: of each its candidates, whether it is there, and what it leaves out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from safetensors.torch import save
from torch import Tensor

from muse_studio.errors import UserError
from muse_training.data.pictures import UnusablePicture
from muse_training.data.storage import StorageFolder
from muse_training.data.token_index import SHARDS, Shard

HEADER = "muse_tokens"
"""The key of a shard's metadata under which it has what it was made of and what it leaves out."""


@dataclass
class PlannedShard:
    """A file of records: of which candidates; once it is there, its entry of the index, and what it leaves out."""

    candidates: range
    entry: Shard | None = None
    left_out: list[UnusablePicture] = field(default_factory=list)

    @property
    def file(self) -> str:
        """Its name, after the first candidate."""
        return f"{self.candidates.start:09d}{SHARDS}"

    def batches(self, size: int) -> list[list[int]]:
        """Its candidates, so many at a time; the last ones may be fewer."""
        return [list(self.candidates[first : first + size]) for first in range(0, len(self.candidates), size)]

    def find(self, folder: StorageFolder, made_of: str) -> None:
        """Fill in what the file that is there has, unless it is torn; UserError where it is made of anything else."""
        try:
            shapes, metadata = folder.header(self.file)
            header = json.loads(metadata[HEADER])
        except (UserError, ValueError, KeyError):  # torn, as no run of ours leaves one
            return
        if header["made_of"] != made_of:
            raise holds_others(folder)
        self.left_out = [UnusablePicture(*each) for each in header["left_out"]]
        self.entry = Shard(self.file, shapes["mask"][0] if shapes else 0, folder.size(self.file))

    def write(self, folder: StorageFolder, made_of: str, tensors: dict[str, Tensor]) -> None:
        """Write the file: each tensor with a leading row a record; none where no candidate could be read."""
        header = {"made_of": made_of, "left_out": [(each.name, each.reason) for each in self.left_out]}
        content = save(tensors, {HEADER: json.dumps(header)})
        folder.write(self.file, content)
        self.entry = Shard(self.file, len(tensors["mask"]) if tensors else 0, len(content))


def plan_shards(count: int, size: int) -> list[PlannedShard]:
    """Shards of `size` candidates each, the last one of what is left of `count`."""
    return [PlannedShard(range(first, min(first + size, count))) for first in range(0, count, size)]


def holds_others(folder: StorageFolder) -> UserError:
    """The error to raise where a folder has other records than those to be written."""
    return UserError(
        f"{folder} holds tokens of other pictures, settings or weights; give another folder as out, or delete it"
    )
