"""From prompts to pixels: the stages in their order, each given the tokens of the one before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from muse_studio.contracts import TextEmbedding, TextEncoder
from muse_studio.runtime import memory
from muse_studio.runtime.device import keep_freed_memory, move_to_device
from muse_studio.sampling.noise import Rows
from muse_studio.sampling.stage import Stage

Watch = Callable[[str, int, int, Tensor], None]
"""Called after each step: the stage's name, the step from 1, of how many, and the tokens int64[B, h, w]."""


def make_ready(stages: dict[str, Stage], text_encoder: TextEncoder, device: torch.device) -> None:
    """Move every part to the device, switch dropout off, and let each stage settle into its precision.

    Raises UserError, before anything is moved, where the device has no room for the weights and for one picture.
    """
    need = memory.weigh([stages, text_encoder], device) + max(map(one_picture, stages.values()), default=0)
    cure = "choose precision: bfloat16, smaller sizes, or another device"
    memory.check(need, "the weights and one picture take at least", cure, device)
    move_to_device(stages, device)
    move_to_device(text_encoder, device)
    for stage in stages.values():
        stage.settle(device)
        for part in (stage.tokenizer, *stage.models().values()):
            if isinstance(part, torch.nn.Module):
                part.eval()
    if device.type == "cpu":
        keep_freed_memory()


def one_picture(stage: Stage) -> int:
    """Bytes that a step of sampling one picture takes at least: float32 logits, the guided, and of both halves."""
    return 3 * 4 * math.prod(stage.grid) * stage.tokenizer.codebook_size


def count_steps(stages: dict[str, Stage]) -> int:
    """How many sampling steps one batch takes through all stages."""
    return sum(stage.sampler.steps for stage in stages.values())


@torch.inference_mode()
def sample(
    stages: dict[str, Stage],
    text: TextEmbedding,
    generator: torch.Generator | Rows,
    *,
    negative: TextEmbedding | None = None,
    watch: Watch,
) -> dict[str, Tensor]:
    """B prompts to each stage's finished tokens int64[B, h, w] (Muse, section 2.1).

    A stage refines the tokens of the one before it; the last one's are the picture's.

    One generator serves all stages and all B rows, in order: the same generator and the same B give the same pictures.
    Of `Rows`, one a picture, each serves its own through all stages, as if it were drawn alone.
    """
    finished: dict[str, Tensor] = {}
    low = None
    for name, stage in stages.items():
        steps = stage.sampler.steps
        for step, tokens in enumerate(stage.sample(text, generator, negative=negative, low=low), start=1):
            watch(name, step, steps, tokens)
        finished[name] = low = tokens
    return finished


@torch.inference_mode()
def decode(stage: Stage, tokens: Tensor) -> Tensor:
    """int64[B, h, w] to pictures float32[B, 3, H, W] in 0..1."""
    return stage.decode(tokens)


def report_step(hook: Any, stage: str, step: int, steps: int, tokens: Tensor) -> None:
    """One step to the observers; a task that is called from Python may have none (`hook` is None)."""
    if hook is not None:
        hook.muse_step(stage=stage, step=step, steps=steps, tokens=tokens, loss=None, image=None, numbers=None)
