"""What tokens read at random cost beside a training step: records a second that a loader gives, and that a step takes.

python benchmarks/loader.py [--records 20000] [--batch 128] [--workers 0] [--seconds 0.1]

The records are made up, of the embedded model's sizes: 8x8 tokens, 32 text positions of width 384 in bfloat16. The
step is the embedded base transformer's, forward, backward and AdamW in bfloat16; `--seconds` takes another machine's.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import click
import torch
from muse_sampling.schedules import Cosine
from muse_training.data.encoder import collate, unpack_states
from muse_training.data.storage import StorageFolder
from muse_training.data.token_index import Shard, TensorSpec, TokenIndex
from muse_training.data.tokens import Tokens
from muse_transformer.muse import MuseTransformer
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from muse_studio.contracts import TextEmbedding
from muse_studio.sampling.masking import hide, mask_tokens, masked_loss
from muse_studio.training.order import Order

GRID, CODES, POSITIONS, WIDTH, SHARD = 8, 4096, 32, 384, 2048
FIELDS = {
    "tokens.base": TensorSpec("int16", [GRID, GRID]),
    "states": TensorSpec("bfloat16", [POSITIONS, WIDTH]),
    "mask": TensorSpec("bool", [POSITIONS]),
    "pooled": TensorSpec("float32", [WIDTH]),
}


def made_up(folder: str, records: int) -> Tokens:
    """A finished folder of random records."""
    storage, shards = StorageFolder(folder), []
    for start in range(0, records, SHARD):
        count = min(SHARD, records - start)
        content = save(
            {
                "tokens.base": torch.randint(CODES, (count, GRID, GRID), dtype=torch.int16),
                "states": torch.randn(count, POSITIONS, WIDTH).bfloat16(),
                "mask": torch.ones(count, POSITIONS, dtype=torch.bool),
                "pooled": torch.randn(count, WIDTH),
            }
        )
        shards.append(Shard(f"{start:09d}.safetensors", count, len(content)))
        storage.write(shards[-1].file, content)
    TokenIndex("made up", records, 0, FIELDS, {}, "made up", "bfloat16", shards).write(storage)
    return Tokens(folder)


def loader_rate(data: Tokens, batch: int, steps: int, workers: int) -> float:
    """Records a second in random order, through torch's loader; the first batch, which maps the files, left out."""
    order = Order(len(data), batch, 0, 0, steps + 1)
    batches = iter(DataLoader(data, batch_sampler=order, collate_fn=collate, num_workers=workers))
    next(batches)
    began = time.perf_counter()
    for _ in batches:
        pass
    return steps * batch / (time.perf_counter() - began)


def step_seconds(batch: dict[str, Tensor], repeats: int) -> float:
    """The median time of a training step of the embedded base transformer."""
    model = MuseTransformer(CODES, [GRID, GRID], WIDTH, width=320, layers=6, heads=5).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    times = []
    for step in range(repeats + 1):
        began = time.perf_counter()
        tokens, text = batch["tokens.base"].long(), TextEmbedding(unpack_states(batch), batch["mask"])
        hidden = mask_tokens(len(tokens), (GRID, GRID), Cosine(), torch.Generator().manual_seed(step))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(hide(tokens, hidden), model.condition(text))
        loss, _ = masked_loss(logits, tokens, hidden)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


@click.command()
@click.option("--records", default=20_000)
@click.option("--batch", default=128)
@click.option("--steps", default=300, help="batches to read")
@click.option("--workers", default=0, help="processes that read; 0 reads in this one")
@click.option("--repeats", default=5, help="training steps to time")
@click.option("--seconds", default=None, type=float, help="of a training step; timed here by default")
def main(records: int, batch: int, steps: int, workers: int, repeats: int, seconds: float | None) -> None:
    """Print both rates and their ratio."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        data = made_up(folder, records)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(f"{records} records, {size / 1e6:.0f} MB; torch {torch.__version__}, {torch.get_num_threads()} threads")
        loaded = loader_rate(data, batch, steps, workers)
        print(f"the loader gives {loaded:,.0f} records a second, in batches of {batch}, {workers} workers")
        took = step_seconds(data.__getitems__(list(range(batch))), repeats) if seconds is None else seconds
        print(f"a training step takes {took:.3f} s, which is {batch / took:,.0f} records a second")
        print(f"the loader is {loaded * took / batch:.1f} x as fast as the step")


if __name__ == "__main__":
    main()
