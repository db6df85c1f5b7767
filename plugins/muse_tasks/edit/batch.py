"""The task `edit` over many pictures at once, as it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from muse_studio.registry.events import ProgressBar
from muse_studio.sampling.abilities import iterations
from muse_studio.sampling.cascade import Watch
from muse_studio.sampling.editing.session import EditSession
from muse_studio.sampling.editing.windows import Layout
from muse_tasks.edit.task import Edit
from muse_tasks.generate.batching import batched, encode
from muse_tasks.generate.reporting import report_to

T = TypeVar("T")


@dataclass(frozen=True)
class BatchEditor:
    """A task `edit` and how it is run over many pictures.

    The task's own picture, region, prompts, feather, seed and count play no part. hook: the observers, or None.
    """

    task: Edit
    device: torch.device
    seed: int
    batch: int
    hook: Any = None

    def batches(self, count: int) -> int:
        """How many batches so many pictures make."""
        return -(-count // self.batch)

    def batched(self, each: Sequence[T]) -> Iterator[Sequence[T]]:
        """All of them, so many at a time."""
        return batched(each, self.batch)

    @contextmanager
    def bar(self, batches: int, label: str) -> Iterator[Watch]:
        """A progress bar over so many batches, and what `edit` calls after each step, to report it."""
        first, *later = (stage.sampler.steps for stage in self.task.stages.values())
        steps = first * (iterations(self.task.editor) or 1) + sum(later)
        with ProgressBar(batches * steps) as bar:
            yield report_to(self.hook, bar, label)

    def edit(
        self,
        pictures: Tensor,
        regions: Tensor,
        prompts: Sequence[str],
        generator: torch.Generator,
        *,
        negatives: Sequence[str] | None = None,
        watch: Watch,
    ) -> Tensor:
        """uint8[B, 3, H, W], changed within bool[B, H, W] alone: the same shape.

        Pictures are of the last stage's size, so that each is one window. One generator serves all B, in order.
        """
        task = self.task
        layout = Layout.of(task.stages, (pictures.shape[2], pictures.shape[3]))
        each = [
            EditSession(task.stages, layout, picture, region, self.device, dilate=task.dilate, redraw=task.redraw)
            for picture, region in zip(pictures, regions, strict=True)
        ]
        text = encode(task.text_encoder, prompts, self.device)
        negative = None if negatives is None else encode(task.text_encoder, negatives, self.device)
        whole = EditSession.joined(each)
        *_, draft = whole.edit(task.editor, text, generator, negative=negative, watch=watch)
        finished = whole.finish(draft, text, generator, negative=negative, watch=watch)
        rows = [{name: tokens[row : row + 1] for name, tokens in finished.items()} for row in range(len(each))]
        return torch.stack([one.paste(row) for one, row in zip(each, rows, strict=True)])
