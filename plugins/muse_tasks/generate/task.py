"""The task `generate`: prompts become pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from muse_studio.contracts import NO_RUN, RunContext, TextEncoder
from muse_studio.errors import SettingError
from muse_studio.images.naming import slug
from muse_studio.images.provenance import Provenance
from muse_studio.recipe.running import ask_picture, ask_prompts
from muse_studio.runtime.device import choose_device
from muse_studio.sampling.cascade import make_ready
from muse_studio.sampling.stage import Stage, check_fit
from muse_tasks.generate.batching import check_batch, fitting, in_batches
from muse_tasks.generate.drawing import Drawing, Job
from muse_tasks.generate.pictures import (
    ANIMATION,
    STRIP,
    Pictures,
    beside,
    check_request,
    names_a_file,
    open_out,
    save_new,
)

if TYPE_CHECKING:
    from muse_tasks.generate.steps import Film


@dataclass
class Generate:
    """Draw pictures of prompts, stage after stage, and write them as PNG.

    Each picture has a generator of its own: one prompt and one seed draw the same picture whatever else is drawn in the
    run. Sampled alone, as they are by default, pictures are the same to the last bit. In a batch of several they are so
    up to how a batched matrix product rounds, which now and then draws another token.

    stages: each one's finished tokens are what the next one refines; the last one's picture is kept.
    prompt: one or several; an empty one is unconditional.
    negative: what to move away from; nothing by default.
    count: pictures a prompt.
    seed: of each prompt's first picture; its others take seed + 1, seed + 2 and so on. On a CPU torch heeds the lower
        32 bits alone.
    out: a folder, made where missing; or, for one picture, a name that ends in .png. No file is ever overwritten: a
        taken name is numbered.
    batch: pictures that are drawn at once, for which each stage's sampler must be `rowwise`; fewer where the memory
        does not suffice. It saves much time on a GPU, and little on a CPU.
    device: auto, cpu, cuda, cuda:1, mps, ...
    animate: beside each picture, also write name.webp, in which its tokens are filled in step by step.
    previews: beside each picture, also write name-steps.png, a strip of some of its steps.
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    prompt: str | list[str]
    negative: str = ""
    count: int = 1
    seed: int = 0
    out: str = "out"
    batch: int = 1
    device: str = "auto"
    animate: bool = False
    previews: bool = False

    def __post_init__(self) -> None:
        check_fit(self.stages, self.text_encoder)
        self.prompts = [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)
        if not self.prompts:
            raise SettingError("prompt", 'prompt is an empty list; give at least one, or "" for a picture of anything')
        check_batch(self.batch, self.stages)
        check_request(self.prompts, self.negative, self.count, self.seed, self.out)

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Pictures:
        """Draw and write them all; `hook` hears of each step, and each picture carries what the run was made of.

        Raises UserError where a filter refuses a prompt, `out` can't be written or the device is missing, before
        anything is drawn; and where a filter refuses a picture, before that is written.
        """
        ask_prompts(hook, self.prompts)
        out, device = open_out(self.out), choose_device(self.device)
        make_ready(self.stages, self.text_encoder, device)
        seeds = range(self.seed, self.seed + self.count)
        jobs = (Job(prompt, seed) for prompt in self.prompts for seed in seeds)  # one by one: there may be millions
        total = len(self.prompts) * self.count
        films = self.animate or self.previews
        drawing = Drawing(self.stages, self.text_encoder, self.negative, device, total, films, hook)
        result = Pictures([], [], [], [], seconds=drawing.seconds)
        most = fitting(self.batch, self.stages, device) if self.batch > 1 else 1
        with drawing.bar:
            for batch, drawn in in_batches(jobs, most, drawing.draw):
                for job, (image, film) in zip(batch, drawn, strict=True):
                    ask_picture(hook, image, job.prompt, job.seed)
                    # Written at once, so that an interrupted run keeps what it has drawn.
                    self._write(job, image, film, out, context, drawing, result)
                    drawing.done += 1
        if total > 1:
            provenance = self._provenance(context, self.prompts, self.seed, self.count)
            result.sheet = save_new(result.contact_sheet(), out / "sheet.png", provenance)
        return result

    def _write(
        self,
        job: Job,
        image: Image.Image,
        film: Film | None,
        out: Path,
        context: RunContext,
        drawing: Drawing,
        result: Pictures,
    ) -> None:
        """The picture's file, and beside it what is asked for."""
        endings = [ANIMATION] * self.animate + [STRIP] * self.previews
        provenance = self._provenance(context, job.prompt, job.seed, 1)
        path = out if names_a_file(self.out) else out / f"{slug(job.prompt)}.png"
        path = save_new(image, path, provenance, endings=endings)
        if film is not None:
            self._write_steps(film, image, path, job.prompt, provenance, drawing, result)
        result.add(image, path, job.prompt, job.seed)

    def _write_steps(
        self,
        film: Film,
        image: Image.Image,
        path: Path,
        prompt: str,
        provenance: Provenance,
        drawing: Drawing,
        result: Pictures,
    ) -> None:
        from muse_tasks.generate.steps import animate, strip

        frames = []
        for frame in film.frames(image):
            frames.append(frame)
            drawing.advance("its steps")
        if self.animate:
            result.animations.append(animate(frames, beside(path, ANIMATION), provenance))
        if self.previews:
            result.strips.append(save_new(strip(frames, prompt), beside(path, STRIP), provenance))

    def _provenance(self, context: RunContext, prompt: str | list[str], seed: int, count: int) -> Provenance:
        """Of just these pictures; where they were written, and how they were computed, is not in it."""
        recipe = context.recipe
        if recipe is not None:
            recipe = {key: value for key, value in recipe.items() if key not in ("out", "device", "batch")}
            recipe |= {"prompt": prompt, "seed": seed, "count": count}
        return Provenance(recipe, context.plugins)
