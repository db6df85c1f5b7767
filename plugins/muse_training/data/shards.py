"""Makes token shards of a data set, each once: a run that was killed goes on with the shard that it left unfinished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from muse_studio.errors import UserError
from muse_studio.registry.progress import ProgressBar
from muse_studio.stage import Stage
from muse_studio.training.order import NO_RECORD
from muse_studio.training.stopping import ignore_signals
from muse_training.data.fingerprint import fingerprint, of_part
from muse_training.data.index import INDEX, SHARDS, Field, Index, Shard, spoken
from muse_training.data.pictures import BrokenPicture, attempt, candidates
from muse_training.data.records import Encoder, States, stack
from muse_training.data.store import Store

BATCH = 128
"""Pictures encoded at a time."""
SHARD = 2048
"""Pictures a file: tens of MB with MiniLM's text states, a GB with T5-XXL's."""
PROBES = 32
"""Records by which it is seen that the data are the same as before."""
LEFT_OUT = "left-out.jsonl"
"""Beside the index: each picture that could not be used, and why."""
SAID = "muse_tokens"
"""The metadata key under which a shard says what it was made of and what it leaves out."""


class Attempts(Dataset):
    """The candidates of a data set: each one's record, or what is wrong with it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return candidates(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any] | BrokenPicture:
        try:
            return attempt(self.dataset, index)
        except BrokenPicture as error:
            return error


class Builder:
    """What is to be made: the tokens and text states that `encoder` gives of every picture in `dataset`.

    settings: what the recipe says of the data set; with some records it tells one data set from another.
    batch: pictures encoded at a time; it changes no record.
    """

    def __init__(
        self,
        dataset: Any,
        encoder: Encoder,
        settings: Any,
        states: States = "bfloat16",
        shard: int = SHARD,
        batch: int = BATCH,
    ) -> None:
        self.encoder, self.states, self.shard, self.batch = encoder, states, shard, batch
        self.attempts = Attempts(dataset)
        self.count = len(self.attempts)
        if self.count == 0:
            raise UserError(NO_RECORD)
        probes = [self.attempts[place * (self.count - 1) // (PROBES - 1)] for place in range(PROBES)]
        name, stage = list(encoder.stages.items())[-1]
        for probe in probes:
            if isinstance(probe, dict):
                check_size(probe["image"], name, stage)
        self.stages, self.text = spoken(encoder), of_part(encoder.text_encoder)
        values = [each for probe in probes for each in (probe.values() if isinstance(probe, dict) else [str(probe)])]
        self.made_of = fingerprint(self.count, settings, shard, states, self.stages, self.text, *values)

    def build(self, store: Store, workers: int, recipe: dict[str, Any]) -> tuple[Index, list[BrokenPicture]]:
        """Make what is missing in the store, its index last; the index, and every picture that is left out.

        UserError where the store holds tokens made of anything else.
        """
        names = store.names()
        finished = Index.read(store) if INDEX in names else None
        if finished is not None and finished.made_of != self.made_of:
            raise self._other(store)
        starts = range(0, self.count, self.shard)
        there = {start: self._found(store, _file(start), names) for start in starts}
        made = {start: each for start, each in there.items() if each is not None}
        missing = [start for start in starts if start not in made]
        for start, tensors, broken in self._made(missing, workers):
            header = {"made_of": self.made_of, "left_out": [(each.name, each.reason) for each in broken]}
            content = save(tensors, {SAID: json.dumps(header)})
            store.write(_file(start), content)
            made[start] = Shard(_file(start), len(tensors["mask"]) if tensors else 0, len(content)), broken
        shards = [made[start][0] for start in starts]
        left = [each for start in starts for each in made[start][1]]
        if finished is not None and not missing:
            return finished, left
        records = sum(shard.records for shard in shards)
        if records == 0:
            raise UserError(f"none of {self.count} pictures could be read; the first: {left[0]}")
        if left:
            lines = [json.dumps({"picture": each.name, "reason": each.reason}) + "\n" for each in left]
            store.write(LEFT_OUT, "".join(lines).encode())
        index = Index(
            self.made_of, records, len(left), self.fields(), self.stages, self.text, self.states, shards, recipe
        )
        index.write(store)
        return index, left

    def _found(self, store: Store, name: str, names: set[str]) -> tuple[Shard, list[BrokenPicture]] | None:
        """A shard that is there, and what it leaves out; None where it must be made."""
        if name not in names:
            return None
        try:
            shapes, metadata = store.header(name)
            header = json.loads(metadata[SAID])
        except (UserError, ValueError, KeyError):  # torn, as no run of ours leaves one
            return None
        if header["made_of"] != self.made_of:
            raise self._other(store)
        records = shapes["mask"][0] if shapes else 0
        return Shard(name, records, store.size(name)), [BrokenPicture(*each) for each in header["left_out"]]

    def _other(self, store: Store) -> UserError:
        return UserError(
            f"{store} holds tokens of other pictures, settings or weights; give another folder as out, or delete it"
        )

    def fields(self, states: States | None = None) -> dict[str, Field]:
        """Each tensor of a record, by name, as one of a blank picture has them."""
        packed = self.encoder.pack(blank(list(self.encoder.stages.values())[-1]), states or self.states)
        return {
            name: Field(str(each.dtype).removeprefix("torch."), list(each.shape[1:])) for name, each in packed.items()
        }

    def _made(self, starts: list[int], workers: int) -> Iterator[tuple[int, dict[str, Tensor], list[BrokenPicture]]]:
        """Each shard's first candidate, its tensors, and what it leaves out."""
        cuts = {start: range(start, min(start + self.shard, self.count), self.batch) for start in starts}
        batches = [
            list(range(first, min(first + self.batch, start + self.shard, self.count)))
            for start, firsts in cuts.items()
            for first in firsts
        ]
        loader = DataLoader(
            self.attempts, batch_sampler=batches, num_workers=workers, collate_fn=_sorted, worker_init_fn=ignore_signals
        )
        loaded = iter(loader)
        with ProgressBar(sum(map(len, batches))) as bar:
            for start, firsts in cuts.items():
                parts: list[dict[str, Tensor]] = []
                broken: list[BrokenPicture] = []
                for _ in firsts:
                    batch, faults = next(loaded)
                    broken += faults
                    if batch is not None:
                        parts.append(self.encoder.pack(batch, self.states))
                    bar.advance("encoding pictures", len(faults) + (0 if batch is None else len(batch["caption"])))
                names = parts[0] if parts else {}
                yield start, {name: torch.cat([part[name] for part in parts]) for name in names}, broken


def blank(stage: Stage) -> dict[str, Any]:
    """A batch of one black picture of a stage's size, captioned: what to try parts out on."""
    return {"image": torch.zeros(1, 3, stage.height, stage.width, dtype=torch.uint8), "caption": ["a"]}


def check_size(image: Tensor, name: str, stage: Stage) -> None:
    """UserError where pictures such as this one, uint8[3, H, W], are not of the stage's size."""
    if image.shape[-2:] != (stage.height, stage.width):
        raise UserError(
            f"the data set's pictures have {'x'.join(map(str, image.shape[-2:]))} pixels, the stage {name!r} has "
            f"{stage.height}x{stage.width}; set both to the same size"
        )


def _file(start: int) -> str:
    return f"{start:09d}{SHARDS}"


def _sorted(
    attempts: list[dict[str, Any] | BrokenPicture],
) -> tuple[dict[str, Any] | None, list[BrokenPicture]]:
    """What could be read, as a batch, and what could not."""
    whole = [each for each in attempts if isinstance(each, dict)]
    return stack(whole) if whole else None, [each for each in attempts if isinstance(each, BrokenPicture)]
