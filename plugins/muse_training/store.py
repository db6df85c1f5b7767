"""Keeps what a frozen part makes of every record, in shards, so that it is computed once."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from muse_studio import weights
from muse_studio.progress import progress

SHARD = 2048
"""Records a file: some tens of MB of text states."""


class Store:
    """Tensors by record, behind `folder`; `compute(start, stop)` makes those of a range, with a leading stop - start.

    A shard that is there already is not made again, so an interrupted build goes on where it stopped.
    """

    def __init__(self, folder: Path, length: int, compute: Callable[[int, int], dict[str, Tensor]]) -> None:
        self.folder, self.length, self.compute = folder, length, compute

    @property
    def shards(self) -> list[tuple[int, int, Path]]:
        """Each shard's first record, the one after its last, and its file."""
        starts = range(0, self.length, SHARD)
        return [(s, min(s + SHARD, self.length), self.folder / f"{s:09d}.safetensors") for s in starts]

    def build(self, what: str) -> None:
        """Make the shards that are missing, with progress."""
        missing = [shard for shard in self.shards if not shard[2].exists()]
        for start, stop, path in progress(missing, what):
            weights.save(self.compute(start, stop), path, {})

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One record's tensors, without a leading dimension."""
        starts, files = self._open
        shard = bisect.bisect_right(starts, index) - 1
        return {name: part[index - starts[shard]] for name, part in files[shard].items()}

    @cached_property
    def _open(self) -> tuple[list[int], list[dict[str, Tensor]]]:
        files = []
        for _, _, path in self.shards:
            with safe_open(path, "pt") as file:  # mapped, not read
                files.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no mapping
        return [start for start, _, _ in self.shards], files


def fingerprint(*things: object) -> str:
    """A short name for what determines a store's content: modules by their weights, tensors by value, else by repr."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, nn.Module):
            for name, tensor in sorted(thing.state_dict().items()):
                digest.update(name.encode() + _bytes(tensor))
        else:
            digest.update(_bytes(thing) if isinstance(thing, Tensor) else repr(thing).encode())
    return digest.hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
