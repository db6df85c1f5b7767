"""Draws batches of pictures for the task `generate`, reports each step, and says how long they took."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from muse_studio.contracts import TextEmbedding, TextEncoder
from muse_studio.images.pixels import to_images
from muse_studio.registry.events import ProgressBar
from muse_studio.sampling.cascade import count_steps, decode, report_step, sample
from muse_studio.sampling.stage import Stage
from muse_tasks.generate.batching import encode, generator, together

if TYPE_CHECKING:
    from muse_tasks.generate.steps import Film


@contextmanager
def timed(seconds: list[float], pictures: int) -> Iterator[None]:
    """Add the seconds a picture of what is done within; it must end on the CPU, as a device goes on by itself."""
    began = time.perf_counter()
    yield
    seconds.append((time.perf_counter() - began) / pictures)


def machine(device: torch.device) -> str:
    """What computes, in a line: "Intel(R) Xeon(R) Processor, 2 threads, torch 2.13.0"."""
    if device.type == "cuda":
        computes = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        computes = f"{_processor()}, {threads} thread{'s' * (threads != 1)}"
    else:
        computes = device.type
    return f"{computes}, torch {torch.__version__}"


def _processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:  # not Linux
        names = []
    return next(iter(names), platform.processor() or platform.machine())


class Job(NamedTuple):
    """One picture to draw."""

    prompt: str
    seed: int


class Drawn(NamedTuple):
    """One picture, and its steps where they are to be shown."""

    image: Image.Image
    film: Film | None


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
        self.films = films
        film = self._film()
        self.pieces = count_steps(stages) + (0 if film is None else film.count)
        self.bar = ProgressBar(total * self.pieces)

    def _film(self) -> Film | None:
        if not self.films:
            return None
        from muse_tasks.generate.steps import Film

        return Film(self.stages)

    def draw(self, batch: list[Job]) -> list[Drawn]:
        """The batch's pictures. It may be called again for the same jobs, in smaller batches."""
        self.bar.done = self.done * self.pieces  # again, where memory did not suffice
        films = [self._film() for _ in batch]

        def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
            report_step(self.hook, stage, step, steps, tokens)
            for film, row in zip(films, tokens.split(1), strict=True):
                if film is not None:
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
        return [Drawn(image, film) for image, film in zip(images, films, strict=True)]

    def advance(self, what: str, pieces: int = 1) -> None:
        """Report `pieces` more of the bar done, at what of the present picture."""
        self.bar.advance(f"picture {self.done + 1} of {self.total}, {what}", pieces)

    def _text(self, batch: list[Job]) -> TextEmbedding:
        """The prompts' embedding; each prompt is encoded once, alone, so that no other one changes its numbers."""
        texts = {job.prompt: encode(self.text_encoder, [job.prompt], self.device) for job in batch}
        return together([texts[job.prompt] for job in batch])
