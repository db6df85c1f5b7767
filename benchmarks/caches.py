"""What feature caches save: sampling with each against exact steps, in one run, with random weights.

python benchmarks/caches.py [--model amused-256] [--batch 1] [--steps 12] [--precision auto] [--clock wall]

All fill the same grids, by the same sampler from the same seed; each round runs every one in turn, so that a machine
which slows down slows all, and the ratio is of medians. `--clock cpu` counts the process's own seconds on a CPU, which
others on a busy machine hardly change. FLOPs are counted in a run of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import click
import torch
from timing import flops, machine, medians

from muse_studio import parts
from muse_studio.contracts import TextEmbedding
from muse_studio.runtime.device import keep_freed_memory
from muse_studio.sampling.feature_cache import Cache
from muse_studio.stage import Stage
from muse_studio.testing import FakeTokenizer

MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "emoji-base": (
        "muse",
        {"codebook_size": 4096, "grid": [8, 8], "text_width": 384, "width": 320, "layers": 6, "heads": 5},
        32,
    ),
    "amused-256": ("amused", {}, 77),
    "muse-632m": ("muse", {"width": 1280, "layers": 24, "heads": 20, "mlp": 5120}, 64),
}
"""Each transformer's part, its settings, and how many text positions it looks at."""
CACHES: dict[str, Cache | None] = {
    "exact": None,
    "changed, every 3": Cache("changed", 3),
    "changed, every 3, both halves": Cache("changed", 3, guidance=False),
    "context, every 3": Cache("context", 3),
    "max-logit, every 3": Cache("max-logit", 3),
    "changed, every 4": Cache("changed", 4),
    "changed, every 6": Cache("changed", 6),
}


class Codes(FakeTokenizer):
    """Stands for a tokenizer of any size: nothing is decoded here."""

    def __init__(self, codebook_size: int, grid: tuple[int, int]) -> None:
        self.codebook_size, self._grid = codebook_size, grid

    def grid_shape(self, height: int, width: int) -> tuple[int, int]:
        """The model's own."""
        return self._grid


Precision = Literal["auto", "float32", "bfloat16"]


def make(model: str, steps: int, precision: Precision, on: torch.device, cache: Cache | None) -> Stage:
    """The stage, on the device, settled for that cache."""
    name, settings, _ = MODELS[model]

    def part(kind: str, name: str) -> Any:
        return parts(kind, name)[0].load()

    torch.manual_seed(0)
    transformer = part("transformer", name)(**settings).eval().requires_grad_(False).to(on)
    tokenizer = Codes(transformer.codebook_size, transformer.grid)
    sampler, guidance = part("sampler", "confidence")(steps=steps), part("guidance", "cfg")(scale=3.0)
    schedule = part("schedule", "cosine")()
    made = Stage(tokenizer, transformer, schedule, sampler, guidance, 256, precision=precision, cache=cache)
    made.settle(on)
    return made


@click.command()
@click.option("--model", default="amused-256", type=click.Choice(list(MODELS)))
@click.option("--batch", default=1)
@click.option("--steps", default=12)
@click.option("--precision", default="auto", type=click.Choice(get_args(Precision)))
@click.option("--repeats", default=5)
@click.option("--clock", default="wall", type=click.Choice(["wall", "cpu"]))
@click.option("--device", default="cpu")
def main(model: str, batch: int, steps: int, precision: Precision, repeats: int, clock: str, device: str) -> None:
    """Print the time and the FLOPs of each, and their ratios to exact steps."""
    on, now = torch.device(device), time.perf_counter if clock == "wall" else time.process_time
    exact, cached = (make(model, steps, precision, on, cache) for cache in (None, Cache()))
    width, positions = exact.transformer.text_width, MODELS[model][2]
    text = TextEmbedding(
        torch.randn(batch, positions, width, device=on),
        torch.ones(batch, positions, dtype=torch.bool, device=on),
        torch.randn(batch, width, device=on),
    )
    if on.type == "cpu":
        keep_freed_memory()

    def draw(cache: Cache | None) -> None:
        stage = exact
        if cache is not None:
            stage, cached.cache = cached, cache
        for _ in stage.sample(text, torch.Generator().manual_seed(0)):
            pass

    runs: dict[str, Callable[[], None]] = {name: partial(draw, cache) for name, cache in CACHES.items()}
    worked = {name: flops(run) / steps for name, run in runs.items()}
    took = {name: each / steps for name, each in medians(runs, repeats, on, now).items()}
    print(f"{model}, batch {batch}, {steps} steps, {exact.precision}, {machine(on)}")
    print(f"| cache | ms a step ({clock}) | faster | GFLOP a step | less |\n| --- | ---: | ---: | ---: | ---: |")
    for name in CACHES:
        faster, less = took["exact"] / took[name], worked["exact"] / worked[name]
        print(f"| {name} | {took[name] * 1e3:.1f} | {faster:.2f} | {worked[name] / 1e9:.1f} | {less:.2f} |")


if __name__ == "__main__":
    main()
