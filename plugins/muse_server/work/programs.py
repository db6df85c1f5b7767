"""What the model's thread does for other programs: draws and edits pictures of no session."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from PIL import Image, ImageOps
from torch import Tensor

from muse_server.canvases import moments
from muse_server.canvases.pictures import scaled
from muse_server.canvases.previews import preview
from muse_server.drawings import Advanced, Drawing, Finished, Partial, Told
from muse_server.refusals import Refusal
from muse_server.work.jobs import Job
from muse_studio.images.pixels import from_image, to_images
from muse_studio.images.provenance import Provenance
from muse_studio.recipe.running import ask_picture, ask_prompts
from muse_studio.sampling.arguments import LARGEST_SEED
from muse_studio.sampling.cascade import Watch
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.region import touched
from muse_studio.sampling.editing.session import EditSession
from muse_studio.sampling.editing.windows import Layout
from muse_studio.sampling.model import Model
from muse_studio.sampling.variants import editor_of

BY_WORDS, IN_REGION = "mask-free", "inpaint"
"""The editors of a picture where none is asked for."""
LONGEST = 4
"""How many times as long as wide a picture is drawn, at most; one that is to be yet longer is cut out of that."""
FEATHERED = 32
"""The part of a picture's shorter side over which what is drawn and what was there blend."""

Made: TypeAlias = tuple[Image.Image, Mapping[str, Tensor], Provenance]


def draw(model: Model, asked: Drawing, job: Job, tell: Callable[[Told], None], previews: bool) -> None:
    """Draw all that is asked for, and tell it as it comes.

    previews: whether pictures may be shown before they are finished. Raises UserError, Refused among them, Cancelled.
    """
    first = secrets.randbelow(2**32) if asked.seed is None else asked.seed
    using = model.using(**asked.settings) if asked.settings else model
    for index in range(asked.count):
        seed = (first + index) % (LARGEST_SEED + 1)
        watch = _watch(using, asked, index, job, tell, asked.partials if previews else 0)
        image, tokens, said = (_new if asked.picture is None else _edited)(using, asked, seed, watch)
        job.check()
        tell(Finished(index, seed, _sized(image, asked), said, sum(grid.numel() for grid in tokens.values())))


def _new(model: Model, asked: Drawing, seed: int, watch: Watch) -> Made:
    """A picture of words alone, on a canvas as long as the size that is asked for is, in whole cells."""
    canvas = Canvas.of(model, seed)
    wide, high = canvas.size
    width, height = asked.size or canvas.size
    right = round(wide * (min(LONGEST, max(1.0, width * high / (height * wide))) - 1))
    bottom = round(high * (min(LONGEST, max(1.0, height * wide / (width * high))) - 1))
    if right or bottom:
        canvas.extend(right=right, bottom=bottom)
    canvas.generate(asked.prompt, negative=asked.negative, seed=seed, watch=watch)
    return moments.picture(canvas), canvas.tokens, canvas.provenance


def _edited(model: Model, asked: Drawing, seed: int, watch: Watch) -> Made:
    """A picture of somebody's, changed within a region, or by words alone."""
    assert asked.picture is not None  # or it would be a new one
    ask_prompts(model.hook, [asked.prompt])
    change = editor_of(model, asked.editor or (BY_WORDS if asked.region is None else IN_REGION))
    picture = scaled(asked.picture)
    if max(picture.size) > LONGEST * min(picture.size):
        raise Refusal(f"the picture is more than {LONGEST} times as long as it is wide; cut out a part", "image")
    size = picture.height, picture.width
    region = torch.ones(size, dtype=torch.bool)
    if asked.region is not None:
        region = touched(torch.tensor(asked.region), size)
    layout = Layout.of(model.stages, size)
    feather = max(1, min(size) // FEATHERED)
    session = EditSession(model.stages, layout, from_image(picture), region, model.device, feather=feather)
    with model.naming_faults(), torch.inference_mode():
        text = model.text_encoder([asked.prompt]).to(model.device)
        away = model.text_encoder([asked.negative]).to(model.device) if asked.negative else None
    generator = torch.Generator().manual_seed(seed)
    with model.naming_faults():
        *_, draft = session.edit(change, text, generator, negative=away, watch=watch)
        tokens = session.finish(draft, text, generator, negative=away, watch=watch)
        image = to_images(session.paste(tokens)[None])[0]
    ask_picture(model.hook, image, asked.prompt, seed)
    if image.size != asked.picture.size:
        image = image.resize(asked.picture.size, Image.Resampling.LANCZOS)
    return image, tokens, Provenance(None, model.plugins, edited=True, prompt=asked.prompt)


def _sized(image: Image.Image, asked: Drawing) -> Image.Image:
    """A picture in the size that is asked for, scaled and, where its shape is another, cut."""
    return image if asked.size is None else ImageOps.fit(image, asked.size, Image.Resampling.LANCZOS)


def _watch(model: Model, asked: Drawing, index: int, job: Job, tell: Callable[[Told], None], partials: int) -> Watch:
    """What hears of a picture's steps: tells them where that is asked for, and so many partial pictures on the way."""
    total = sum(stage.sampler.steps for stage in model.stages.values())
    due = [total * (number + 1) // (partials + 1) for number in range(partials)]
    done = 0

    def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
        nonlocal done
        job.check()
        done += 1
        if asked.steps:
            tell(Advanced(index, stage, step, steps))
        while due and done >= due[0]:
            due.pop(0)
            number = partials - len(due) - 1
            image = preview(model.stages[stage], tokens, tokens.clamp(min=0))
            tell(Partial(index, number, _sized(image, asked)))

    return watch
