"""The task `edit`: a picture changes where it is told to, without training anything for it (Muse, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import NO_RUN, Editor, RunContext, TextEmbedding, TextEncoder
from muse_studio.errors import SettingError, UserError
from muse_studio.images.naming import LONGEST, slug, spell
from muse_studio.images.pixels import from_image, to_images
from muse_studio.images.provenance import Provenance
from muse_studio.images.reading import open_picture
from muse_studio.images.sheets import Section, Tile, contact_sheet, side_of
from muse_studio.recipe.running import ask_picture, ask_prompts
from muse_studio.registry.events import ProgressBar
from muse_studio.runtime.device import choose_device
from muse_studio.runtime.files import name_problem, path_of
from muse_studio.sampling.abilities import iterations
from muse_studio.sampling.cascade import Watch, make_ready
from muse_studio.sampling.editing.region import read_region
from muse_studio.sampling.editing.session import EditSession
from muse_studio.sampling.editing.windows import Layout
from muse_studio.sampling.stage import Stage, check_fit
from muse_tasks.generate.batching import encode
from muse_tasks.generate.pictures import STRIP, Pictures, beside, check_request, names_a_file, open_out, save_new
from muse_tasks.generate.reporting import report_to

Between = list[tuple[int, Image.Image]]
"""Pictures on the way, each with the iteration after which it is shown."""


@dataclass
class Extend:
    """How many pixels of the picture's own size are added at each side."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for side, pixels in vars(self).items():
            if pixels < 0:
                raise SettingError(side, f"{side} is {pixels}; give 0 pixels or more")

    def __bool__(self) -> bool:
        return any(vars(self).values())


@dataclass
class Edit:
    """Change a picture by a prompt, in all stages: in a region, beyond its sides, or wherever the prompt asks for it.

    The first stage's tokens are changed by the editor, then those of each later stage to match, given the changed ones.
    Tokens outside the region stay as they are, and so do pixels, but for a feather around the region: the result has
    the picture's own size, and elsewhere its very pixels. A picture that is no square keeps its shape: the model works
    on it window by window.

    picture: a file of any mode and size. prompt: what it is to show; empty is unconditional. negative: what to move
    away from.
    region: where it changes: a mask picture, white where new pixels go, a box "x,y,w,h" in pixels, or several of both;
    by default everywhere, or in what is added alone.
    extend: pixels added at each side (outpainting); the region's boxes still count from the picture's top left.
    editor: what happens to the first stage's tokens.
    dilate: rings of tokens around those that the region touches, which are drawn anew too. Without one, the tokens at
    the rim, which have seen what stood in the region, tend to bring it back.
    feather: pixels around the region over which old and new blend; by default a 32nd of the picture's shorter side, and
    0 where the picture is extended, so that none of its pixels changes.
    redraw: what later stages draw anew: "touched", all that the first stage drew anew; "changed", only what came out
    of it differently, and the picture keeps its very pixels everywhere else.
    every: of an editor that goes by iterations, also write the picture after each so many of them.
    previews: also write name-steps.png: the picture before, on the way and after.
    count, seed, out, device: as in the task `generate`.
    """

    stages: dict[str, Stage]
    text_encoder: TextEncoder
    editor: Editor
    picture: str
    prompt: str = ""
    negative: str = ""
    region: str | list[str] | None = None
    extend: Extend | None = None
    dilate: int = 1
    feather: int | None = None
    redraw: Literal["touched", "changed"] = "touched"
    every: int | None = None
    previews: bool = False
    count: int = 1
    seed: int = 0
    out: str = "out"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fit(self.stages, self.text_encoder)
        check_request([self.prompt], self.negative, self.count, self.seed, self.out)
        if not self.picture.strip():
            raise SettingError("picture", "picture is empty; give the file of the picture to edit")
        for name in ("dilate", "feather"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise SettingError(name, f"{name} is {value}; give 0 or more")
        if self.every is not None:
            most = iterations(self.editor)
            if most is None:
                raise SettingError("every", f"every is {self.every}, but the editor has no iterations; leave it out")
            if not 1 <= self.every <= most:
                raise SettingError(
                    "every",
                    f"every is {self.every}; give a number of the editor's iterations, of which it has {most}",
                )

    def __call__(self, hook: Any = None, context: RunContext = NO_RUN) -> Pictures:
        """Draw and write them all; `hook` hears of each step.

        Raises UserError where a filter refuses the prompt, the picture or the region can't be read, `out` can't be
        written or the device is missing, before anything is drawn; and where a filter refuses a picture, before that
        is written.
        """
        ask_prompts(hook, [self.prompt])
        picture = open_picture(self.picture)
        pixels = from_image(picture)
        region = self._region(picture)
        layout = Layout.of(self.stages, self._size(picture), (picture.height, picture.width))
        out, device = open_out(self.out), choose_device(self.device)
        make_ready(self.stages, self.text_encoder, device)
        settings: dict[str, Any] = {"dilate": self.dilate, "redraw": self.redraw, "feather": self._feather(picture)}
        session = EditSession(self.stages, layout, *self._extend(pixels, region), device, **settings)
        text = encode(self.text_encoder, [self.prompt], device)
        negative = encode(self.text_encoder, [self.negative], device) if self.negative else None
        result = Pictures([], [], [], [], before=picture)
        path = out if names_a_file(self.out) else out / f"{_stem(self.picture)}-{slug(self.prompt)}.png"
        with ProgressBar(session.count(self.editor) * self.count) as bar:
            for number, seed in enumerate(range(self.seed, self.seed + self.count), 1):
                watch = report_to(hook, bar, f"picture {number} of {self.count}")
                image, between = self._draw(session, text, negative, seed, watch)
                for shown in (image, *(each for _, each in between)):
                    ask_picture(hook, shown, self.prompt, seed)
                self._write(image, between, path, self._provenance(context, seed, 1), seed, result)
        if self.count > 1:
            inside = self._provenance(context, self.seed, self.count)
            result.sheet = save_new(result.contact_sheet(), out / "sheet.png", inside)
        return result

    def _draw(
        self, session: EditSession, text: TextEmbedding, negative: TextEmbedding | None, seed: int, watch: Watch
    ) -> tuple[Image.Image, Between]:
        """The edited picture of a seed, and those after each `every` iterations."""
        generator = torch.Generator().manual_seed(seed)
        between: Between = []
        for step, draft in enumerate(session.edit(self.editor, text, generator, negative=negative, watch=watch), 1):
            if self.every and step % self.every == 0 and step < (iterations(self.editor) or 0):
                aside = torch.Generator().manual_seed(seed)  # so that looking changes nothing
                finished = session.finish(draft, text, aside, negative=negative, watch=lambda *step: None)
                between.append((step, _image(session.paste(finished))))
        finished = session.finish(draft, text, generator, negative=negative, watch=watch)
        return _image(session.paste(finished)), between

    def _region(self, picture: Image.Image) -> Tensor:
        """bool[H, W] of the picture."""
        if self.region is not None:
            return read_region(self.region, picture.height, picture.width)
        return torch.full((picture.height, picture.width), not self.extend)

    def _feather(self, picture: Image.Image) -> int:
        if self.feather is not None:
            return self.feather
        return 0 if self.extend else max(1, min(picture.size) // 32)

    def _size(self, picture: Image.Image) -> tuple[int, int]:
        """Height and width of the result; UserError where it would be larger than a picture that can be read."""
        extend = self.extend or Extend()
        width, height = picture.width + extend.left + extend.right, picture.height + extend.top + extend.bottom
        most = Image.MAX_IMAGE_PIXELS
        if self.extend and most is not None and width * height > most:
            raise UserError(f"extend: {width}x{height} pixels would come of it, and {most:,} is the most; add fewer")
        return height, width

    def _extend(self, pixels: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
        """uint8[3, H, W] and bool[H, W] with what is added: new, its pixels the repeated border until then."""
        if not self.extend:
            return pixels, region
        sides = (self.extend.left, self.extend.right, self.extend.top, self.extend.bottom)
        larger = F.pad(pixels[None].float(), sides, mode="replicate")[0].byte()
        return larger, F.pad(region, sides, value=True)

    def _write(
        self,
        image: Image.Image,
        between: Between,
        path: Path,
        inside: Provenance,
        seed: int,
        result: Pictures,
    ) -> None:
        """The picture, and beside it what is asked for."""
        endings = [f"-{step:03d}.png" for step, _ in between]
        taken = save_new(image, path, inside, endings=[*endings, *[STRIP] * self.previews])
        for ending, (_, shown) in zip(endings, between, strict=True):
            result.between.append(save_new(shown, beside(taken, ending), inside))
        if self.previews:
            assert result.before is not None  # of an edit, it is known
            tiles = [Tile([result.before], "before")]
            tiles += [Tile([shown], f"iteration {step}") for step, shown in between]
            tiles += [Tile([image], "after")]
            sheet = contact_sheet([Section(spell(self.prompt), tiles, [])], side=side_of(image), columns=len(tiles))
            result.strips.append(save_new(sheet, beside(taken, STRIP), inside))
        result.add(image, taken, self.prompt, seed)

    def _provenance(self, context: RunContext, seed: int, count: int) -> Provenance:
        recipe = context.recipe
        if recipe is not None:
            recipe = {key: value for key, value in recipe.items() if key not in ("out", "device")}
            recipe |= {"seed": seed, "count": count}
        return Provenance(recipe, context.plugins, edited=True)


def _stem(picture: str) -> str:
    """The name of the picture's file without its ending; as a prompt's where it is too long to have one behind it."""
    stem = path_of(picture).stem
    return slug(stem) if name_problem(stem) or len(stem.encode()) > LONGEST else stem


def _image(pixels: Tensor) -> Image.Image:
    return to_images(pixels[None])[0]
