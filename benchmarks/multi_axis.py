"""What multi-axis attention saves: one layer of Muse's super-resolution trunk against full self-attention, in one run.

python benchmarks/multi_axis.py [--grid 64] [--width 1024] [--heads 16] [--block 8] [--batch 1] [--device cpu]

Both have the same width, heads and number of weights; what differs is who looks at whom. The two are timed in turn, so
that a machine which slows down slows both; the ratio is of medians.
"""

from __future__ import annotations

from collections.abc import Callable

import click
import torch
from muse_transformer.attention import MultiAxisAttention, SelfAttention
from timing import flops, machine, medians
from torch import Tensor, nn


def forward(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """As drawing runs it."""

    def run() -> None:
        with torch.no_grad():
            layer(x)

    return run


def train(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward."""
    return lambda: layer(x).sum().backward()


@click.command()
@click.option("--grid", default=64, help="tokens a side")
@click.option("--width", default=1024)
@click.option("--heads", default=16)
@click.option("--block", default=8, help="tokens a side of a block")
@click.option("--batch", default=1)
@click.option("--repeats", default=7)
@click.option("--device", default="cpu")
def main(grid: int, width: int, heads: int, block: int, batch: int, repeats: int, device: str) -> None:
    """Print FLOPs and times of both, and their ratios."""
    on = torch.device(device)
    torch.manual_seed(0)
    layers = {
        "full": SelfAttention(width, heads).to(on),
        "multi-axis": MultiAxisAttention(width, heads, (grid, grid), block).to(on),
    }
    x = torch.randn(batch, grid * grid, width, device=on)
    print(f"{grid}x{grid} tokens, width {width}, {heads} heads, blocks of {block}x{block}, batch {batch}")
    print(machine(on))
    for what, way in (("forward", forward), ("forward and backward", train)):
        runs = {kind: way(layer, x) for kind, layer in layers.items()}
        work = {kind: flops(run) for kind, run in runs.items()}
        median = medians(runs, repeats, on)
        for kind in layers:
            print(f"{what}, {kind}: {work[kind] / 1e9:.1f} GFLOPs, {median[kind] * 1e3:.1f} ms")
        print(
            f"{what}: full attention does {work['full'] / work['multi-axis']:.2f} x the FLOPs "
            f"in {median['full'] / median['multi-axis']:.2f} x the time"
        )


if __name__ == "__main__":
    main()
