"""Writes token shards of a data set, each once: a run that was killed goes on with the shard that it lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from muse_studio.errors import UserError
from muse_studio.registry.events import ProgressBar
from muse_studio.training.loading import batches
from muse_studio.training.order import NO_RECORD
from muse_training.data.captions import Account
from muse_training.data.encoder import MICRO, Encoder, States, blank_batch, check_picture_size, collate
from muse_training.data.fingerprint import fingerprint, part_fingerprint
from muse_training.data.listing import Unused
from muse_training.data.pictures import UnusablePicture, account, attempt, candidates
from muse_training.data.shard_plan import PlannedShard, holds_others, plan_shards
from muse_training.data.storage import StorageFolder
from muse_training.data.token_index import INDEX, Shard, TensorSpec, TokenIndex, stage_tokens

BATCH = 128
"""Pictures encoded at a time."""
SHARD = 2048
"""Pictures a file: tens of MB with MiniLM's text states, a GB with T5-XXL's."""
PROBES = 32
"""Records by which it is seen that the data are the same as before."""
LEFT_OUT = "left-out.jsonl"
"""Beside the index: each picture that could not be used, each file, folder and line that was not, and why."""


class Written(NamedTuple):
    """The index of what was written, every picture left out, and where the captions came from, None if unknown."""

    made: TokenIndex
    left_out: list[UnusablePicture]
    account: Account | None


class Attempts(Dataset):
    """The candidates of a data set: each one's record, or what is wrong with it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return candidates(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any] | UnusablePicture:
        try:
            return attempt(self.dataset, index)
        except UnusablePicture as error:
            return error


class ShardWriter:
    """Writes the tokens and text states that `encoder` gives of every picture in `dataset`.

    settings: what the recipe says of the data set; with some records it tells one data set from another.
    shard: pictures a file. batch: pictures encoded at a time; it changes no record.
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
                check_picture_size(probe["image"], name, stage)
        self.stages, self.text = stage_tokens(encoder), part_fingerprint(encoder.text_encoder)
        found = itertools.chain(probes, map(self.attempts.__getitem__, range(self.count)))
        self.micro = MICRO in next((each for each in found if isinstance(each, dict)), {})
        values = [each for probe in probes for each in (probe.values() if isinstance(probe, dict) else [str(probe)])]
        self.made_of = fingerprint(self.count, settings, shard, states, self.stages, self.text, *values)

    def write(self, folder: StorageFolder, workers: int, recipe: dict[str, Any]) -> Written:
        """Write what is missing in the folder, its index last, and list beside it all that gave no record.

        UserError where the folder holds tokens made of anything else.
        """
        names = folder.names()
        finished = TokenIndex.read(folder) if INDEX in names else None
        if finished is not None and finished.made_of != self.made_of:
            raise holds_others(folder)
        if LEFT_OUT in names and not _lists_left_out(folder.read(LEFT_OUT)):
            raise UserError(
                f"{folder.join(LEFT_OUT)} is none that prepare-tokens wrote, and would be replaced; move it away, or "
                "give another folder as out"
            )
        plan = plan_shards(self.count, self.shard)
        for planned in plan:
            if planned.file in names:
                planned.find(folder, self.made_of)
        missing = [planned for planned in plan if planned.entry is None]
        for planned, tensors in self._encoded(missing, workers):
            planned.write(folder, self.made_of, tensors)
        left_out = [each for planned in plan for each in planned.left_out]
        told = account(self.attempts.dataset, (each.name for each in left_out))
        _list_left_out(folder, names, left_out, [] if told is None else told.unused)
        if finished is None or missing:
            finished = self._finish(folder, [each.entry for each in plan if each.entry], left_out, recipe)
        return Written(finished, left_out, told)

    def _encoded(self, missing: list[PlannedShard], workers: int) -> Iterator[tuple[PlannedShard, dict[str, Tensor]]]:
        """Each shard with its tensors, and filled in what it leaves out."""
        planned_batches = {planned.file: planned.batches(self.batch) for planned in missing}
        order = [batch for each in planned_batches.values() for batch in each]
        loaded = batches(self.attempts, order, _collate_attempts, workers)
        with ProgressBar(sum(len(planned.candidates) for planned in missing)) as bar:
            for planned in missing:
                packed: list[dict[str, Tensor]] = []
                for candidates in planned_batches[planned.file]:
                    batch, unusable = next(loaded)
                    planned.left_out += unusable
                    if batch is not None:
                        packed.append(self.encoder.pack(batch, self.states))
                    bar.advance("encoding pictures", len(candidates))
                names = packed[0] if packed else {}
                yield planned, {name: torch.cat([each[name] for each in packed]) for name in names}

    def _finish(
        self, folder: StorageFolder, shards: list[Shard], left_out: list[UnusablePicture], recipe: dict[str, Any]
    ) -> TokenIndex:
        records = sum(shard.records for shard in shards)
        if records == 0:
            raise UserError(f"none of {self.count} pictures could be read; the first: {left_out[0]}")
        tensors = record_tensors(self.encoder, self.states, self.micro)
        index = TokenIndex(
            self.made_of, records, len(left_out), tensors, self.stages, self.text, self.states, shards, recipe
        )
        index.write(folder)
        return index


def _list_left_out(
    folder: StorageFolder, names: set[str], left_out: list[UnusablePicture], unused: list[Unused]
) -> None:
    """Write all that gave no record, a line each, unless the file says just that."""
    lines = [json.dumps({"picture": each.name, "reason": each.reason}) + "\n" for each in left_out]
    lines += [json.dumps({"unused": each.name, "reason": each.reason}) + "\n" for each in unused]
    content = "".join(lines).encode()
    if content != (folder.read(LEFT_OUT) if LEFT_OUT in names else b""):
        folder.write(LEFT_OUT, content)


def _lists_left_out(content: bytes) -> bool:
    """Whether a file is a list of `_list_left_out`: its lines are tables that give a reason."""
    try:
        return all("reason" in dict(json.loads(line)) for line in content.splitlines())
    except (ValueError, TypeError):
        return False


def record_tensors(encoder: Encoder, states: States, micro: bool) -> dict[str, TensorSpec]:
    """Each tensor of a record, by name, as one of a blank picture has them, with its micro-conditions or without."""
    packed = encoder.pack(blank_batch(list(encoder.stages.values())[-1], micro), states)
    return {
        name: TensorSpec(str(each.dtype).removeprefix("torch."), list(each.shape[1:])) for name, each in packed.items()
    }


def _collate_attempts(
    attempts: list[dict[str, Any] | UnusablePicture],
) -> tuple[dict[str, Any] | None, list[UnusablePicture]]:
    """What could be read, as a batch, and what could not."""
    records = [each for each in attempts if isinstance(each, dict)]
    return collate(records) if records else None, [each for each in attempts if isinstance(each, UnusablePicture)]
