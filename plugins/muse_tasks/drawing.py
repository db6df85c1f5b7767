"""From prompts to pixels: the stages in their order, each given the tokens of the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from muse_studio.contracts import TextEmbedding, TextEncoder
from muse_studio.device import place
from muse_studio.stage import Stage

Watch = Callable[[str, int, int, Tensor], None]
"""Told after each step: the stage's name, the step from 1, of how many, and the tokens int64[B, h, w]."""


def check_fit(stages: dict[str, Stage], text_encoder: TextEncoder) -> None:
    """Raise ValueError where there is no stage, or where a stage's transformer wants text of another width."""
    if not stages:
        raise ValueError("stages is empty; name at least one, such as base: {tokenizer: ..., transformer: ...}")
    for name, stage in stages.items():
        try:
            stage.check_text(text_encoder)
        except ValueError as error:
            raise ValueError(f"stages.{name}: {error}") from error


def make_ready(stages: dict[str, Stage], text_encoder: TextEncoder, device: torch.device) -> None:
    """Move every part to the device, and switch dropout off."""
    place(stages, device)
    place(text_encoder, device)
    for stage in stages.values():
        for part in vars(stage).values():
            if isinstance(part, torch.nn.Module):
                part.eval()


def count_steps(stages: dict[str, Stage]) -> int:
    """How many sampling steps one batch takes through all stages."""
    return sum(stage.sampler.steps for stage in stages.values())


@torch.inference_mode()
def draw(
    stages: dict[str, Stage],
    text: TextEmbedding,
    generator: torch.Generator,
    *,
    negative: TextEmbedding | None = None,
    watch: Watch,
) -> Tensor:
    """B prompts to pictures float32[B, 3, H, W] in 0..1 of the last stage's size (Muse, section 2.1).

    One generator serves all stages and all B rows, in order: the same generator and the same B give the same pictures.
    """
    finished: Tensor | None = None
    for name, stage in stages.items():
        low, steps = finished, stage.sampler.steps
        for step, tokens in enumerate(stage.sample(text, generator, negative=negative, low=low), start=1):
            watch(name, step, steps, tokens)
            finished = tokens
    return stage.tokenizer.decode(finished).float().clamp(0, 1)


def tell(hook: Any, stage: str, step: int, steps: int, tokens: Tensor) -> None:
    """One step to the observers; a task that is called from Python may have none (`hook` is None)."""
    if hook is not None:
        hook.muse_step(stage=stage, step=step, steps=steps, tokens=tokens, loss=None, image=None)
