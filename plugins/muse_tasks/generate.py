"""The task `generate`: prompts become pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from muse_studio.contracts import TextEmbedding, TextEncoder
from muse_studio.device import pick
from muse_studio.files import open_folder, path_of
from muse_studio.progress import ProgressBar
from muse_studio.stage import Stage, check_fit
from muse_tasks.drawing import count_steps, draw, make_ready, tell
from muse_tasks.naming import slug
from muse_tasks.pictures import provenance, save_new, to_images
from muse_tasks.sheet import Section, Tile, contact_sheet

LARGEST_SEED = 2**63 - 1
SHOWN = 256
"""Pictures on a contact sheet; of more, the first ones stand on it."""


@dataclass
class Pictures:
    """What was drawn, in the order of the prompts; a notebook shows it as a picture."""

    images: list[Image.Image] = field(repr=False)
    paths: list[Path]
    prompts: list[str]
    seeds: list[int]
    sheet: Path | None = None

    def summary(self) -> str:
        """One line a picture: where it is, its seed, its prompt."""
        lines = [
            f"{path}  seed {seed}  {prompt or '(no prompt)'}"
            for path, seed, prompt in zip(self.paths, self.seeds, self.prompts, strict=True)
        ]
        shown = "all" if len(self.images) <= SHOWN else f"the first {SHOWN}"
        return "\n".join(lines if self.sheet is None else [*lines, f"{self.sheet}  {shown} of them"])

    def contact_sheet(self) -> Image.Image:
        """All pictures on one (the first 256, where there are more), with their prompts."""
        tiles = [Tile([image], prompt) for image, prompt in zip(self.images, self.prompts, strict=True)][:SHOWN]
        return contact_sheet([Section("", tiles, [])], side=min(256, max(128, *self.images[0].size)))

    def _repr_png_(self) -> bytes:
        shown = self.images[0] if len(self.images) == 1 else self.contact_sheet()
        file = io.BytesIO()
        shown.save(file, "PNG")
        return file.getvalue()


@dataclass
class Generate:
    """Draw pictures of prompts, stage after stage, and write them as PNG.

    Each picture is sampled alone, with a generator of its own: one prompt and one seed draw the same picture whatever
    else is drawn in the run. A batch would break that, because a sampler draws the noise of a whole batch from one
    generator, and because a batched matrix product may round differently.

    stages: each one's finished tokens are what the next one refines; the last one's picture is kept.
    prompt: one or several; an empty one is unconditional.
    negative: what to move away from; nothing by default.
    count: pictures a prompt.
    seed: of each prompt's first picture; its others take seed + 1, seed + 2 and so on. On a CPU torch heeds the lower
        32 bits alone.
    out: a folder, made where missing; or, for one picture, a name that ends in .png. No file is ever overwritten: a
        taken name is numbered.
    device: auto, cpu, cuda, cuda:1, mps, ...
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    prompt: str | list[str]
    negative: str = ""
    count: int = 1
    seed: int = 0
    out: str = "out"
    device: str = "auto"
    recipe: dict[str, Any] | None = field(default=None, init=False)
    """The resolved recipe, which each picture then carries; set by the runner."""
    plugins: dict[str, str] | None = field(default=None, init=False)
    """Plugins and their versions, which each picture then carries; set by the runner."""

    def __post_init__(self) -> None:
        check_fit(self.stages, self.text_encoder)
        self.prompts = [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)
        if not self.prompts:
            raise ValueError('prompt is an empty list; give at least one, or "" for a picture of anything')
        for prompt in (*self.prompts, self.negative):
            if any("\ud800" <= character <= "\udfff" for character in prompt):
                raise ValueError(f"prompt {prompt!r} is not valid Unicode; type it again in a UTF-8 terminal or file")
        if self.count < 1:
            raise ValueError(f"count is {self.count}; draw at least 1 picture a prompt")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed is {self.seed}; give one from 0 to {LARGEST_SEED}")
        if self.seed + self.count - 1 > LARGEST_SEED:
            raise ValueError(
                f"count is {self.count}; the last seed, {self.seed} + count - 1, must be at most {LARGEST_SEED}"
            )
        if not self.out.strip():
            raise ValueError('out is empty; name a folder, such as "out", or "." for this one')
        if self._one_file and len(self.prompts) * self.count > 1:
            raise ValueError(
                f"out is {self.out!r}, one file, but {len(self.prompts) * self.count} pictures are asked for; "
                "name a folder"
            )

    @property
    def _one_file(self) -> bool:
        return self.out.lower().endswith(".png")

    def __call__(self, hook: Any = None) -> Pictures:
        """Draw and write them all; `hook` hears of each step.

        Raises UserError where `out` can't be written or the device is missing, before anything is drawn.
        """
        out = path_of(self.out)
        open_folder(out.parent if self._one_file else out, "out")
        device = pick(self.device)
        make_ready(self.stages, self.text_encoder, device)
        negative = self._encode(self.negative, device) if self.negative else None
        result = Pictures([], [], [], [])
        total = len(self.prompts) * self.count
        with ProgressBar(total * count_steps(self.stages)) as bar:

            def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
                tell(hook, stage, step, steps, tokens)
                bar.advance(f"picture {len(result.images) + 1} of {total}, {stage}")

            for prompt in self.prompts:
                text = self._encode(prompt, device)
                for seed in range(self.seed, self.seed + self.count):
                    generator = torch.Generator().manual_seed(seed)
                    image = to_images(draw(self.stages, text, generator, negative=negative, watch=watch))[0]
                    path = out if self._one_file else out / f"{slug(prompt)}.png"
                    # Written at once, so that an interrupted run keeps what it has drawn.
                    result.paths.append(save_new(image, path, self._provenance(prompt, seed, 1)))
                    result.images.append(image)
                    result.prompts.append(prompt)
                    result.seeds.append(seed)
        if total > 1:
            inside = self._provenance(self.prompts, self.seed, self.count)
            result.sheet = save_new(result.contact_sheet(), out / "sheet.png", inside)
        return result

    @torch.inference_mode()
    def _encode(self, prompt: str, device: torch.device) -> TextEmbedding:
        return self.text_encoder([prompt]).to(device)

    def _provenance(self, prompt: str | list[str], seed: int, count: int) -> PngInfo:
        """The recipe of just these pictures; where they were written, and on what device, is nobody else's concern."""
        recipe = self.recipe
        if recipe is not None:
            kept = {key: value for key, value in recipe.items() if key not in ("out", "device")}
            recipe = {**kept, "prompt": prompt, "seed": seed, "count": count}
        return provenance(recipe, self.plugins)
