"""What multi-axis attention saves: one layer of Muse's super-resolution trunk against full self-attention, in one run.

python benchmarks/multi_axis.py [--grid 64] [--width 1024] [--heads 16] [--block 8] [--batch 1] [--device cpu]

Both have the same width, heads and number of weights; what differs is who looks at whom. The two are timed in turn, so
that a machine which slows down slows both; the ratio is of medians.
"""

from __future__ import annotations

import statistics

import click
import torch
from muse_transformer.attention import MultiAxisAttention, SelfAttention
from timing import seconds
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def forward(layer: nn.Module, x: Tensor) -> None:
    """As drawing runs it."""
    with torch.no_grad():
        layer(x)


def train(layer: nn.Module, x: Tensor) -> None:
    """Forward and backward."""
    layer(x).sum().backward()


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
    name = torch.cuda.get_device_name(on) if on.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{grid}x{grid} tokens, width {width}, {heads} heads, blocks of {block}x{block}, batch {batch}")
    print(f"torch {torch.__version__}, {on.type}: {name}")
    for what, run in (("forward", forward), ("forward and backward", train)):
        flops, times = {}, {kind: [] for kind in layers}
        for kind, layer in layers.items():
            # Written out for the count: the counter does not know every fused kernel, and counts it as nothing.
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                run(layer, x)
            flops[kind] = counter.get_total_flops()
        for _ in range(repeats):
            for kind, layer in layers.items():
                times[kind].append(seconds(lambda run=run, layer=layer: run(layer, x), on))
        median = {kind: statistics.median(each) for kind, each in times.items()}
        for kind in layers:
            print(f"{what}, {kind}: {flops[kind] / 1e9:.1f} GFLOPs, {median[kind] * 1e3:.1f} ms")
        print(
            f"{what}: full attention does {flops['full'] / flops['multi-axis']:.2f} x the FLOPs "
            f"in {median['full'] / median['multi-axis']:.2f} x the time"
        )


if __name__ == "__main__":
    main()
