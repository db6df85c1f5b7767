"""What a model draws while it is trained: a sheet of the same prompts and seed, again and again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from muse_studio.contracts import TextEmbedding
from muse_studio.errors import Refused
from muse_studio.images.naming import check_prompt
from muse_studio.images.pixels import from_image, to_images
from muse_studio.images.provenance import Provenance, write_png
from muse_studio.images.sheets import Section, Tile, contact_sheet, side_of
from muse_studio.recipe.running import ask_picture, ask_prompts, listeners
from muse_training.data.encoder import Encoder, collate

RECORDS = 8
"""Records of the data set whose captions are drawn where no prompts are given."""


@dataclass
class Samples:
    """Sheets of pictures drawn while a run goes on: every `every` steps, and at the end.

    prompts: what to draw; by default what the data set's first 8 records say.
    seed: of each picture, as in the task `generate`, which draws the same picture from the same weights.

    A stage behind another one refines the tokens that the tokenizer of the stage before makes of the data set's first
    records, one for each prompt; the sheet shows them beside what was drawn. So give it no prompts, and each picture
    has its own caption.

    Filters are asked of the prompts before anything is trained, and of each picture: one that is refused stays grey.
    """

    every: int = 500
    prompts: list[str] = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every is {self.every}; give a number of steps, 1 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; give one from 0 to {2**63 - 1}")
        for prompt in self.prompts:
            check_prompt(prompt)


class Sheets:
    """Writes `folder/step-0000500.png` and so on, by the sampler, guidance and tokenizer of the stage in training.

    encoder: the stage, and what is frozen. dataset: read at once, its first records alone. steps: of the whole run.
    writes: whether this process is the one to write; all processes draw, as each may hold a share of the weights.
    hook: the observers, who are shown each sheet.
    """

    def __init__(
        self,
        samples: Samples,
        encoder: Encoder,
        dataset: Any,
        folder: Path,
        steps: int,
        writes: bool = True,
        hook: Any = None,
    ) -> None:
        self.samples, self.folder, self.steps, self.writes = samples, folder, steps, writes
        self.hook, self.filters = hook, listeners() if hook is None else hook
        ask_prompts(self.filters, samples.prompts)
        self.name, stages = list(encoder.stages)[-1], list(encoder.stages.values())
        self.stage, self.low, self.given = stages[-1], None, []
        prompts, seen = samples.prompts, None
        if not prompts or len(stages) > 1:
            count = len(prompts) or min(RECORDS, len(dataset))
            batch = collate([dataset[index % len(dataset)] for index in range(count)])
            seen, prompts = encoder(batch), prompts or batch.get("caption", [])
            if seen.low is not None:
                self.low = seen.low
                self.given = to_images(self._decode(stages[-2].tokenizer, seen.low))
        if prompts:
            self.prompts, self.text = prompts, [encoder.text([prompt]) for prompt in prompts]
        else:  # records of tokens, whose captions are known as text states alone
            assert seen is not None  # without prompts they are read
            self.prompts = [f"record {number}" for number in range(count)]
            self.text = [
                TextEmbedding(*row) for row in zip(*(_rows(each, count) for each in seen.text[:3]), strict=True)
            ]

    def __call__(self, done: int) -> None:
        """After step `done`, the sheet of what the stage draws, where one is due; the training is left alone."""
        if done % self.samples.every and done != self.steps:
            return
        stage, tiles = self.stage, []
        with torch.random.fork_rng(devices=[]), _evaluating(*stage.models().values(), stage.tokenizer), torch.no_grad():
            for place, (prompt, text) in enumerate(zip(self.prompts, self.text, strict=True)):
                low = None if self.low is None else self.low[place : place + 1]
                generator = torch.Generator().manual_seed(self.samples.seed)
                *_, tokens = stage.sample(text, generator, low=low)
                drawn = [self._asked(image, prompt) for image in to_images(self._decode(stage.tokenizer, tokens))]
                tiles.append(Tile([*self.given[place : place + 1], *drawn], prompt))
        if not self.writes:
            return
        labels = ["given", "drawn"] if self.given else []
        sheet = contact_sheet([Section(f"step {done}", tiles, labels)], side=side_of(tiles[0].images[-1]))
        write_png(sheet, self.folder / f"step-{done:07d}.png", Provenance(edited=bool(self.given)))
        if self.hook is not None:
            image = from_image(sheet)
            self.hook.muse_step(
                stage=self.name, step=done, steps=self.steps, tokens=None, loss=None, image=image, numbers=None
            )

    def _asked(self, image: Image.Image, prompt: str) -> Image.Image:
        """The picture; a grey one, with a warning, where a filter refuses it: a training need not end for that."""
        if not self.writes:
            return image
        try:
            ask_picture(self.filters, image, prompt, self.samples.seed)
        except Refused as error:
            warnings.warn(f"{error}; it is grey on the sheet", stacklevel=2)
            return Image.new("RGB", image.size, "grey")
        return image

    @torch.no_grad()
    def _decode(self, tokenizer: Any, tokens: Tensor) -> Tensor:
        return tokenizer.decode(tokens).float()


def _rows(tensor: Tensor | None, count: int) -> list[Tensor | None]:
    """Each row by itself, with its leading dimension."""
    return [None] * count if tensor is None else list(tensor.split(1))


@contextmanager
def _evaluating(*parts: Any) -> Iterator[None]:
    """Dropout and the like off in those parts that are modules, and afterwards as it was, module by module."""
    modules = [module for part in parts if isinstance(part, nn.Module) for module in part.modules()]
    before = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training
