"""Makes pictures and captions into tokens and text states, once, to train on as often as wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muse_studio.contracts import NO_RUN, Dataset, RunContext, TextEncoder
from muse_studio.runtime import device as devices
from muse_studio.sampling.stage import Stage, check_fit
from muse_training.data.captions import Account
from muse_training.data.encoder import States, make_encoder
from muse_training.data.pictures import UnusablePicture, list_unusable
from muse_training.data.shard_writer import BATCH, LEFT_OUT, SHARD, ShardWriter, record_tensors
from muse_training.data.storage import StorageFolder
from muse_training.data.token_index import TensorSpec, TokenIndex
from muse_training.data.tokens import Tokens


@dataclass
class Prepared:
    """What was made: where, its index, the pictures left out, and a record's tensors under each kind of states.

    account: where the captions came from, and what was not used; None where the data set does not know.
    """

    folder: StorageFolder
    index: TokenIndex
    left_out: Sequence[UnusablePicture]
    costs: dict[States, dict[str, TensorSpec]]
    account: Account | None = None

    def summary(self) -> str:
        """What the command line prints."""
        shards = self.index.shards
        lines = [
            f"{self.folder}: {self.index.records} records in {len(shards)} shards, "
            f"{_size(sum(shard.bytes for shard in shards))}"
        ]
        for states, tensors in self.costs.items():
            sizes = {name: tensor.bytes for name, tensor in tensors.items()}
            total = sum(sizes.values())
            cost = "take" if states == self.index.states else "would take"
            parts = ", ".join(f"{name} {size}" for name, size in sizes.items())
            whole = _size(total * self.index.records)
            lines.append(f"states as {states} {cost} {total} bytes a record ({parts}), {whole} in all")
        if self.account is not None:
            lines += self.account.lines(f", listed in {self.folder.join(LEFT_OUT)}")
        if self.left_out:
            lines.append(
                f"{len(self.left_out)} pictures left out, listed in {self.folder.join(LEFT_OUT)}:\n  "
                + list_unusable(self.left_out)
            )
        lines.append(f"to train on them: dataset='{{use: tokens, path: {self.folder}}}'")
        return "\n".join(lines)


class PrepareTokens:
    """Encodes every picture and caption of a data set for all `stages`, into shards in `out` that `train` reads.

    Each stage's tokens are of the picture in that stage's size, the data set's own size being the last one's, so that
    one folder serves the training of any of them. What is there already is not made again: killed at any moment, the
    same command goes on, and loses one shard at most. Broken pictures, and all that
    lay there and was not used, are listed in left-out.jsonl beside the index.

    out: a folder, by path or any address of fsspec: s3://, gs://, hf://, memory://.
    states: int8 takes half the room of bfloat16, with one scale a text position.
    workers: processes that read pictures. batch: pictures encoded at a time. shard: pictures a file.
    """

    def __init__(
        self,
        stages: dict[str, Stage],
        text_encoder: TextEncoder,
        dataset: Dataset,
        out: str,
        states: States = "bfloat16",
        workers: int = 0,
        batch: int = BATCH,
        shard: int = SHARD,
        device: str = "auto",
    ) -> None:
        check_fit(stages, text_encoder)
        if isinstance(dataset, Tokens):
            raise ValueError("dataset is of tokens already; give one of pictures")
        if workers < 0 or min(batch, shard) < 1:
            raise ValueError(f"workers is {workers}, batch {batch}, shard {shard}; they are 0, 1 and 1 or more")
        self.stages, self.text_encoder, self.dataset, self.out = stages, text_encoder, dataset, out
        self.states, self.workers, self.batch, self.shard, self.device = states, workers, batch, shard, device

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Prepared:
        """Make what is missing; UserError where `out` can't be written or holds something else."""
        folder, recipe = StorageFolder(self.out), context.recipe or {}
        folder.prove_writable("out")
        encoder = make_encoder(self.stages, self.text_encoder, devices.choose_device(self.device))
        writer = ShardWriter(self.dataset, encoder, recipe.get("dataset"), self.states, self.shard, self.batch)
        written = writer.write(folder, self.workers, recipe)
        costs: dict[States, dict[str, TensorSpec]] = {
            states: record_tensors(encoder, states, writer.micro) for states in ("bfloat16", "int8")
        }
        return Prepared(folder, written.made, written.left_out, costs, written.account)


def _size(count: int) -> str:
    """Bytes as people read them: 1.5 MB."""
    power = min(int(math.log10(max(count, 1))) // 3, 4)
    return f"{count / 1000**power:.4g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
