"""Several pictures at once: in batches that fit the memory, with texts put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypeVar

import torch

from muse_studio.contracts import TextEmbedding, TextEncoder
from muse_studio.errors import SettingError
from muse_studio.runtime import memory
from muse_studio.runtime.memory import lacks_memory
from muse_studio.sampling.abilities import is_rowwise
from muse_studio.sampling.noise import Rows
from muse_studio.sampling.stage import Stage

Job = TypeVar("Job")
Drawn = TypeVar("Drawn")

LOGITS, PIXEL = 32, 2048
"""Bytes a logit and a pixel, as `bytes_a_picture` counts them."""


def batched(each: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    """All of them in their order, `size` at a time."""
    for start in range(0, len(each), size):
        yield each[start : start + size]


@torch.inference_mode()
def encode(encoder: TextEncoder, prompts: Sequence[str], device: torch.device) -> TextEmbedding:
    """B prompts to their embedding on the device."""
    return encoder(list(prompts)).to(device)


def check_batch(batch: int, stages: dict[str, Stage]) -> None:
    """ValueError where it is below 1, or above it with a sampler that draws the noise of all pictures as one."""
    if batch < 1:
        raise SettingError("batch", f"batch is {batch}; draw at least 1 picture at once")
    for name, stage in stages.items():
        if batch > 1 and not is_rowwise(stage.sampler):
            raise SettingError(
                "batch",
                f"batch is {batch}, and the sampler of stages.{name} can't draw each picture by its own seed; give 1",
            )


def generator(seeds: list[int]) -> torch.Generator | Rows:
    """That of one picture, or those of several, by their seeds."""
    return torch.Generator().manual_seed(seeds[0]) if len(seeds) == 1 else Rows.seeded(seeds)


def in_batches(jobs: Iterable[Job], most: int, draw: Callable[[list[Job]], Drawn]) -> Iterator[tuple[list[Job], Drawn]]:
    """The jobs in their order, `most` at once, and what `draw` made of each batch; no more are taken than are drawn.

    Where the memory does not suffice for one, it is drawn again in halves, and so is what follows; a single job's lack
    of memory is raised.
    """
    rest = iter(jobs)
    while batch := list(islice(rest, most)):
        try:
            drawn = draw(batch)
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not lacks_memory(error):
                raise
            most = len(batch) // 2
            rest = chain(batch, rest)
        else:
            yield batch, drawn


def fitting(most: int, stages: dict[str, Stage], device: torch.device) -> int:
    """How many pictures at once, `most` or fewer: on a CPU as many as its free memory holds by the estimate.

    Elsewhere lack of memory is an error that can be caught, see `in_batches`; a process on a CPU may be killed for it.
    """
    free = memory.free() if device.type == "cpu" else None
    return most if free is None else max(1, min(most, free // bytes_a_picture(stages)))


def bytes_a_picture(stages: dict[str, Stage]) -> int:
    """About how much memory a picture takes beside the weights, in its largest stage: logits, or decoding.

    Eight tensors of the logits' size in float32: both halves', and what guidance and sampler make of them. Four of 128
    channels at full resolution for the decoder, as VQGAN's have them.
    """
    return max(
        max(LOGITS * stage.grid[0] * stage.grid[1] * stage.tokenizer.codebook_size, PIXEL * stage.height * stage.width)
        for stage in stages.values()
    )


def together(texts: list[TextEmbedding]) -> TextEmbedding:
    """Several texts of one encoder as one batch, in their order."""
    states, masks, *more = zip(*texts, strict=True)
    pooled, micro = (None if each[0] is None else torch.cat(each) for each in more)
    return TextEmbedding(torch.cat(states), torch.cat(masks), pooled, micro)
