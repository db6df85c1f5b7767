"""Draws batches of pictures for the task `generate`, and reports each step."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from muse_studio.contracts import TextEmbedding, TextEncoder
from muse_studio.images.pixels import to_images
from muse_studio.registry.progress import ProgressBar
from muse_studio.sampling.cascade import count_steps, decode, report_step, sample
from muse_studio.stage import Stage
from muse_tasks.generate.batching import encode, generator, together
from muse_tasks.generate.steps import Film
from muse_tasks.generate.timing import timed


class Job(NamedTuple):
    """One picture to draw."""

    prompt: str
    seed: int


class Drawing:
    """Draws batches of one run's pictures, with a bar of `total` pictures whose pieces are sampling steps and frames.

    negative: what to move away from, "" for nothing. films: whether each picture's steps are shown as frames later.
    done: pictures that are finished. seconds: of sampling and decoding, picture by picture.
    """

    def __init__(
        self,
        stages: dict[str, Stage],
        text_encoder: TextEncoder,
        negative: str,
        device: torch.device,
        total: int,
        films: bool,
        hook: Any,
    ) -> None:
        self.stages, self.text_encoder, self.device, self.hook = stages, text_encoder, device, hook
        self.negative = encode(text_encoder, [negative], device) if negative else None
        self.total, self.done = total, 0
        self.seconds: list[float] = []
        self.pieces = count_steps(stages) + (Film(stages).count if films else 0)
        self.bar = ProgressBar(total * self.pieces)

    def draw(self, batch: list[Job]) -> tuple[list[Image.Image], list[Film]]:
        """The batch's pictures, and each one's steps. It may be called again for the same jobs, in smaller batches."""
        self.bar.done = self.done * self.pieces  # again, where memory did not suffice
        films = [Film(self.stages) for _ in batch]

        def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
            report_step(self.hook, stage, step, steps, tokens)
            for film, row in zip(films, tokens.split(1), strict=True):
                film.keep(stage, row)
            self.advance(stage, len(batch))

        text, last = self._text(batch), list(self.stages)[-1]
        negative = None if self.negative is None else together([self.negative] * len(batch))
        noise = generator([job.seed for job in batch])
        seconds: list[float] = []
        with timed(seconds, len(batch)):
            finished = sample(self.stages, text, noise, negative=negative, watch=watch)
            images = to_images(decode(self.stages[last], finished[last]))
        self.seconds += seconds * len(batch)
        return images, films

    def advance(self, what: str, pieces: int = 1) -> None:
        """Report `pieces` more of the bar done, at what of the present picture."""
        self.bar.advance(f"picture {self.done + 1} of {self.total}, {what}", pieces)

    def _text(self, batch: list[Job]) -> TextEmbedding:
        """The prompts' embedding; each prompt is encoded once, alone, so that no other one changes its numbers."""
        texts = {job.prompt: encode(self.text_encoder, [job.prompt], self.device) for job in batch}
        return together([texts[job.prompt] for job in batch])
