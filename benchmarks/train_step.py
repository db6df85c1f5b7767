"""A training step of a base transformer: its share of the machine's arithmetic, and against diffusers', in one run.

python benchmarks/train_step.py [--recipe models/emoji-base] [--batch 128] [--precision bfloat16] [--compile]
python benchmarks/train_step.py --objectives

The rival is diffusers' UVit2DModel, the transformer of aMUSEd, with the same width, layers, heads, hidden width, codes,
tokens and text, without its convolutional blocks, which ours has not. Both steps are forward, loss, backward, clipping
and fused AdamW, under the same autocast, on the same tokens; they are timed in turn, so that a machine which slows down
slows both, and the ratio is of medians. The machine's rate is that of a large matrix product in the same run.

With --objectives it times a step by each objective instead, in turn, beside the plain cross-entropy written down here.
REPA's network is a ResNet-50 of random weights; the critic is of the transformer's own sizes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import click
import torch
import torch.nn.functional as F
from diffusers import UVit2DModel
from muse_sampling.schedules import Cosine
from muse_training.learner import Step
from muse_training.optimizers import AdamW
from timing import MATRIX, flops, machine, medians, product
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from muse_studio.contracts import Objective, TextEmbedding, Transformer
from muse_studio.recipe.build import build
from muse_studio.recipe.merging import load
from muse_studio.registry.plugins import Registry
from muse_studio.runtime.device import keep_freed_memory
from muse_studio.sampling.abilities import needs_pixels
from muse_studio.sampling.masking import mask_tokens, predicted_loss

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def ours(model: Transformer, text: TextEmbedding) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of our transformer on tokens int64[B, h, w], those of bool[B, h, w] hidden."""

    def loss(tokens: Tensor, hidden: Tensor) -> Tensor:
        return predicted_loss(model, tokens, hidden, text)[0] / hidden.sum()

    return loss


def theirs(model: UVit2DModel, text: TextEmbedding) -> Callable[[Tensor, Tensor], Tensor]:
    """The same of diffusers'; pooled text and the five micro-conditions are constants."""
    count, device = text.mask.shape[0], text.mask.device
    pooled = torch.zeros(count, model.config.cond_embed_dim, device=device)
    micro = torch.zeros(count, 5, device=device)

    def loss(tokens: Tensor, hidden: Tensor) -> Tensor:
        logits = model(tokens.masked_fill(hidden, model.config.vocab_size - 1), text.states, pooled, micro)
        return F.cross_entropy(logits.float(), tokens.masked_fill(~hidden, -100))

    return loss


def rival(settings: dict[str, Any]) -> UVit2DModel:
    """diffusers' transformer with a recipe's sizes."""
    width, hidden = settings["width"], settings.get("mlp") or 4 * settings["width"]
    return UVit2DModel(
        hidden_size=width,
        in_channels=width,
        block_out_channels=width,
        num_res_blocks=0,
        block_num_heads=settings["heads"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        intermediate_size=hidden,
        encoder_hidden_size=settings["text_width"],
        codebook_size=settings["codebook_size"],
        vocab_size=settings["codebook_size"] + 1,
        sample_size=settings["grid"][0],
    )


def backward(loss: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, hidden: Tensor) -> None:
    """What is counted of a step."""
    loss(tokens, hidden).backward()


def step(model: nn.Module, loss: Callable[[], Tensor], halves: bool, device: torch.device) -> Callable[[], None]:
    """One training step, as a call."""
    optimizer = AdamW()(model)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=halves):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return run


def by_objective(part: Objective, model: Any, other: Any, text: TextEmbedding, grid: tuple[int, int]) -> Loss:
    """The loss of one of training's objectives, as training calls it; what it leaves to chance is drawn once."""
    count, device = text.mask.shape[0], text.mask.device
    lots = part.draw(count, grid, Cosine(), lambda name: torch.Generator().manual_seed(0))
    noise = {name: each.to(device) for name, each in lots.noise.items()}
    scale = torch.tensor(1 / float(count if lots.weight is None else lots.weight.sum()), device=device)
    pixels = torch.rand(count, 3, 8 * grid[0], 8 * grid[1], device=device) if needs_pixels(part) else None
    whole = Step(model, part, other).to(device)

    def loss(tokens: Tensor, hidden: Tensor) -> Tensor:
        return whole(tokens, text, None, lots.hidden.to(device), noise, scale, count, pixels)[0]

    return loss


def every_objective(settings: dict[str, Any], text: TextEmbedding, folder: str) -> Iterator[tuple[str, Any, Loss]]:
    """Each objective that needs no teacher, the model that learns by it, and its loss."""
    ResNetModel(ResNetConfig()).save_pretrained(folder)
    device, (height, width) = text.mask.device, settings["grid"]
    needed = {"repa": {"network": folder, "channels": 2048, "width": settings["width"]}}
    for name in ("masked", "maskgit", "mdlm", "discrete-flow", "repa", "token-critic"):
        part: Objective = build(load({"use": name} | needed.get(name, {})), Registry(), Objective)
        other = None
        model: Any = build(load(settings), Registry(), Transformer)
        if name == "token-critic":
            other, model = (
                model.eval().requires_grad_(False),
                build(load(settings | {"use": "critic"}), Registry(), Transformer),
            )
        yield name, model.to(device).train(), by_objective(part, model, other, text, (height, width))


def compare_objectives(
    settings: dict[str, Any], text: TextEmbedding, tokens: Tensor, hidden: Tensor, halves: bool, repeats: int
) -> None:
    """Print how long a step takes by each objective, and beside the plain one."""
    on = tokens.device
    plain: Any = build(load(settings), Registry(), Transformer).to(on).train()
    runs: dict[str, Callable[[], object]] = {
        "written down here": step(plain, partial(ours(plain, text), tokens, hidden), halves, on)
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, model, loss in every_objective(settings, text, folder):
            runs[name] = step(model, partial(loss, tokens, hidden), halves, on)
        median = medians(runs, repeats, on)
    for name, seconds in median.items():
        print(f"{name}: {seconds:.3f} s, {seconds / median['written down here']:.3f} x")


@click.command()
@click.option("--recipe", default="models/emoji-base", help="a model; its first stage is taken")
@click.option("--batch", default=128)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="bfloat16")
@click.option("--compile/--no-compile", default=False, help="ours, by torch.compile")
@click.option("--repeats", default=9)
@click.option("--device", default="cpu")
@click.option("--objectives", is_flag=True, help="steps by each objective, in the place of diffusers'")
def main(recipe: str, batch: int, precision: str, compile: bool, repeats: int, device: str, objectives: bool) -> None:
    """Print both steps' times, their ratio, and what share of the machine's rate ours reaches."""
    on, halves = torch.device(device), precision == "bfloat16"
    settings = next(iter(load(recipe).plain()["stages"].values()))["transformer"] | {"weights": None}
    torch.manual_seed(0)
    mine = build(load(settings), Registry(), Transformer).to(on).train()
    other = rival(settings).to(on).train()
    tokens = torch.randint(settings["codebook_size"], (batch, *settings["grid"]), device=on)
    hidden = mask_tokens(batch, settings["grid"], Cosine(), torch.Generator().manual_seed(0)).to(on)
    states = torch.randn(batch, 32, settings["text_width"], device=on)
    text = TextEmbedding(states, torch.ones(batch, 32, dtype=torch.bool, device=on), None)
    if on.type == "cpu":
        keep_freed_memory()  # as training does
    if objectives:
        print(f"{recipe}, batch {batch}, {precision}; {machine(on)}")
        compare_objectives(settings, text, tokens, hidden, halves, repeats)
        return
    losses = {"ours": ours(mine, text), "diffusers": theirs(other, text)}
    models: dict[str, nn.Module] = {"ours": mine, "diffusers": other}
    work = {name: flops(partial(backward, loss, tokens, hidden)) for name, loss in losses.items()}
    if compile:
        losses["ours"] = torch.compile(losses["ours"])
    runs: dict[str, Callable[[], object]] = {
        name: step(models[name], partial(loss, tokens, hidden), halves, on) for name, loss in losses.items()
    }
    runs["matrix"] = product(torch.bfloat16 if halves else torch.float32, on)
    median = medians(runs, repeats, on)
    rate = 2 * MATRIX**3 / median["matrix"]
    print(f"{recipe}, batch {batch}, {precision}; {machine(on)}")
    print(f"a product of two {MATRIX}x{MATRIX} matrices: {rate / 1e12:.3f} TFLOP/s")
    for name, model in models.items():
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        share = work[name] / median[name] / rate
        print(f"{name}: {size:.1f}M parameters, {work[name] / 1e9:.0f} GFLOP, {median[name]:.3f} s, {share:.2f} of it")
    print(f"a step of diffusers' takes {median['diffusers'] / median['ours']:.2f} x the time of ours")


if __name__ == "__main__":
    main()
