"""A picture that is drawn and changed step by step, for notebooks and interfaces."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from muse_studio.contracts import MASK, TextEncoder
from muse_studio.errors import UserError
from muse_studio.images.naming import check_prompt
from muse_studio.images.pixels import from_image, to_images
from muse_studio.images.provenance import Provenance, write_png
from muse_studio.images.reading import on_white, open_picture, upright
from muse_studio.recipe.running import ask_picture, ask_prompts
from muse_studio.registry.events import ProgressBar
from muse_studio.runtime.device import choose_device
from muse_studio.runtime.files import path_of
from muse_studio.sampling.cascade import Cascade, count_steps, make_ready, open_cascade
from muse_studio.sampling.editing import history
from muse_studio.sampling.editing.history import Moment, Saved
from muse_studio.sampling.editing.region import Region, as_region, to_cells
from muse_studio.sampling.editing.windows import Layout, sample_windows
from muse_studio.sampling.previews import previews
from muse_studio.sampling.stage import Stage


class Canvas:
    """One picture of a model's own size, and all that was done to it; every action gives the canvas back.

        canvas = Canvas.open("models/emoji", seed=1)
        canvas.generate("a red apple, noto style").freeze("0,0,128,40").reroll("20,50,60,60", prompt="a pear")
        canvas.undo()
        canvas.save_picture("apple.png")

    A region is a box "x,y,w,h" or (x, y, w, h) in pixels, a mask (a file, a picture, or an array bool[H, W]), or a list
    of boxes and files; None is all of the picture. Tokens that are erased are drawn anew by `fill`, given all others.
    The same seed and actions give the same picture: each action that draws has a seed of its own, made of the canvas's
    and of how many actions came before, unless it is given one.

    dilate: rings of tokens around a region that are erased with it (see `region.to_cells`); frozen ones stay.
    """

    def __init__(
        self,
        stages: dict[str, Stage],
        text_encoder: TextEncoder,
        seed: int = 0,
        device: str = "auto",
        dilate: int = 1,
    ) -> None:
        model = Cascade(stages, text_encoder)
        model.device = choose_device(device)
        make_ready(model.stages, text_encoder, model.device)
        self._start(model, seed, dilate)

    @classmethod
    def of(cls, model: Cascade, seed: int = 0, dilate: int = 1) -> Canvas:
        """A blank canvas for a model that is ready to draw, with its recipe and filters."""
        canvas = cls.__new__(cls)
        canvas._start(model, seed, dilate)
        return canvas

    def _start(self, model: Cascade, seed: int, dilate: int) -> None:
        self.model, self.seed, self.dilate, self.device = model, seed, dilate, model.device
        self.recipe, self.hook = model.recipe, model.hook
        stages = model.stages
        self._last = model.last
        self._plane = Layout.of(stages, (self._last.height, self._last.width))
        blank = {name: stage.blank(1, self.device) for name, stage in stages.items()}
        nothing = {name: torch.zeros_like(grid, dtype=torch.bool) for name, grid in blank.items()}
        self._history = [Moment(blank, {name: ~grid for name, grid in nothing.items()}, nothing, {"do": "start"})]
        self._place = 0

    @classmethod
    def open(
        cls,
        model: str | Path | dict[str, Any] = "models/emoji",
        overrides: Any = None,
        plugins: Sequence[str | Path] = (),
        **settings: Any,
    ) -> Canvas:
        """A blank canvas for a model's recipe; settings as in `Canvas`.

        overrides, plugins, and trust among the settings, are as in `muse_studio.run`.
        Filters of the environment and of plugins are asked before anything is drawn. Raises RecipeError with every
        problem of the recipe.
        """
        device, trust = settings.pop("device", "auto"), settings.pop("trust", False)
        return cls.of(open_cascade(Cascade, model, overrides, plugins, device, trust), **settings)

    @property
    def tokens(self) -> dict[str, Tensor]:
        """Each stage's grid int64[1, h, w], MASK where nothing is drawn."""
        now = self._now
        return {name: torch.where(now.erased[name], MASK, codes) for name, codes in now.codes.items()}

    @property
    def image(self) -> Image.Image:
        """The picture; cells that are erased are grey. Refused, a UserError, where a filter refuses what was drawn."""
        image = self._shown()
        if any("prompt" in did for did in self.history):
            ask_picture(self.hook, image, self.prompt, self.seed)
        return image

    def _shown(self) -> Image.Image:
        name, _ = list(self.model.stages.items())[-1]
        masked, codes = self.tokens[name], self._now.codes[name]
        if (codes == MASK).any():  # never drawn: whatever stands under the grey is not seen
            codes = codes.clamp(min=0)
        with torch.inference_mode():
            shown = next(previews(self._last, [masked, codes]))
        return to_images(shown)[0]

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was done, in order, up to now; what was undone is not among it."""
        return [moment.did for moment in self._history[1 : self._place + 1]]

    @property
    def prompt(self) -> str:
        """The prompt that was drawn last, empty before the first."""
        return next((did["prompt"] for did in reversed(self.history) if "prompt" in did), "")

    def generate(self, prompt: str, *, negative: str = "", seed: int | None = None) -> Canvas:
        """Draw all of the picture anew but for what is frozen."""
        return self._draw("generate", None, prompt, negative, seed)

    def reroll(
        self, region: Region | None = None, prompt: str | None = None, *, negative: str = "", seed: int | None = None
    ) -> Canvas:
        """Draw a region anew, but for what is frozen; the prompt is the last one unless another is given."""
        return self._draw("reroll", region, prompt, negative, seed)

    def fill(self, prompt: str | None = None, *, negative: str = "", seed: int | None = None) -> Canvas:
        """Draw what is erased; the prompt is the last one unless another is given."""
        nothing = torch.zeros(self._last.height, self._last.width, dtype=torch.bool)
        return self._draw("fill", nothing, prompt, negative, seed)

    def erase(self, region: Region | None = None) -> Canvas:
        """Forget a region's tokens, but for those that are frozen."""
        return self._add(replace(self._erased(region), did={"do": "erase", "region": _told(region)}))

    def freeze(self, region: Region | None = None) -> Canvas:
        """Keep a region's tokens, whatever is erased or drawn, until it is thawed."""
        return self._frozen("freeze", region)

    def thaw(self, region: Region | None = None) -> Canvas:
        """Let a region change again."""
        return self._frozen("thaw", region)

    def place(self, picture: str | Image.Image) -> Canvas:
        """Put a picture there, scaled and cut to the canvas's shape; what was frozen no longer is."""
        opened = open_picture(picture) if isinstance(picture, str) else on_white(upright(picture))
        pixels = from_image(opened)
        layout = Layout.of(self.model.stages, (opened.height, opened.width))
        codes = {}
        for name, stage in self.model.stages.items():
            images = layout.to_stage(pixels, stage)[..., : stage.height, : stage.width].float() / 255
            with self.model.naming_faults(), torch.inference_mode():
                codes[name] = stage.tokenizer.encode(images.to(self.device)).clone()
        nothing = {name: torch.zeros_like(grid, dtype=torch.bool) for name, grid in codes.items()}
        description = picture if isinstance(picture, str) else "a picture"
        return self._add(Moment(codes, nothing, nothing, {"do": "place", "picture": description}))

    def undo(self) -> Canvas:
        """Take the last action back; at the beginning, nothing."""
        self._place = max(0, self._place - 1)
        return self

    def redo(self) -> Canvas:
        """Do again what was undone last; nothing where there is none."""
        self._place = min(len(self._history) - 1, self._place + 1)
        return self

    def save_picture(self, path: str | Path) -> Path:
        """Write the picture as a PNG that says where it comes from; UserError where a filter or the disk refuses it."""
        path, image = path_of(str(path)), self._shown()
        ask_picture(self.hook, image, self.prompt, self.seed)
        placed = any(did["do"] == "place" for did in self.history)
        write_png(image, path, Provenance(self.recipe, edited=placed, prompt=self.prompt))
        return path

    def save(self, path: str | Path) -> Path:
        """Write the whole history, what was undone too, to a safetensors file, which `load` reads."""
        path = path_of(str(path))
        history.write(path, Saved(self._history, self._place, self.seed, self.dilate, self.recipe))
        return path

    @classmethod
    def load(
        cls, path: str | Path, model: Cascade | None = None, plugins: Sequence[str | Path] = (), device: str = "auto"
    ) -> Canvas:
        """A saved canvas, its history with it.

        model: what to go on drawing with, where the canvas was not opened by a recipe, which it then carries. Raises
        UserError where the file holds no canvas, or one of a model with other grids.
        """
        path = path_of(str(path))
        saved = history.read(path)
        settings: dict[str, Any] = {"seed": saved.seed, "dilate": saved.dilate, "device": device}
        if model is not None:
            canvas = cls(model.stages, model.text_encoder, **settings)
            canvas.recipe, canvas.hook = model.recipe, model.hook
        elif saved.recipe is not None:
            canvas = cls.open(saved.recipe, plugins=plugins, **settings)
        else:
            raise UserError(f"{path} carries no recipe, as its canvas was made of parts; give them as model")
        blank = canvas._now
        if any(moment.shapes() != blank.shapes() for moment in saved.history):
            raise UserError(f"{path} is of a model with other stages or grids; give the one it was drawn with")
        canvas._history, canvas._place = [each.to(canvas.device) for each in saved.history], saved.place
        return canvas

    @property
    def _now(self) -> Moment:
        return self._history[self._place]

    def _add(self, moment: Moment) -> Canvas:
        """The next moment; what was undone before it is gone."""
        self._history = [*self._history[: self._place + 1], moment]
        self._place += 1
        return self

    def _cells(self, region: Region | None, dilate: int) -> dict[str, Tensor]:
        """Each stage's tokens of a region, bool[1, h, w]."""
        height, width = self._last.height, self._last.width
        pixels = torch.ones(height, width, dtype=torch.bool) if region is None else as_region(region, height, width)
        cells = {}
        for name, stage in self.model.stages.items():
            touched = self._plane.region_to_stage(pixels, stage)
            cells[name] = to_cells(touched, stage.grid, dilate)[None].to(self.device)
        return cells

    def _erased(self, region: Region | None) -> Moment:
        now, cells = self._now, self._cells(region, self.dilate)
        return replace(
            now, erased={name: grid | (cells[name] & ~now.frozen[name]) for name, grid in now.erased.items()}
        )

    def _frozen(self, do: str, region: Region | None) -> Canvas:
        now, cells = self._now, self._cells(region, 0)
        frozen = {
            name: (grid | (cells[name] & ~now.erased[name])) if do == "freeze" else (grid & ~cells[name])
            for name, grid in now.frozen.items()
        }
        return self._add(replace(now, frozen=frozen, did={"do": do, "region": _told(region)}))

    def _draw(self, do: str, region: Region | None, prompt: str | None, negative: str, seed: int | None) -> Canvas:
        prompt = self.prompt if prompt is None else prompt
        check_prompt(prompt)
        check_prompt(negative)
        ask_prompts(self.hook, [prompt])
        did = {"do": do, "prompt": prompt}
        if do == "reroll":
            did["region"] = _told(region)
        if negative:
            did["negative"] = negative
        if seed is None:
            seed = int(np.random.SeedSequence([self.seed, self._place]).generate_state(1, np.uint32)[0])
        wanted = self._erased(region)
        generator = torch.Generator().manual_seed(seed)
        codes, low = {}, None
        bar = ProgressBar(count_steps(self.model.stages), self.hook)
        with self.model.naming_faults(), bar, torch.no_grad():
            with torch.inference_mode():
                text = self.model.text_encoder([prompt]).to(self.device)
                away = self.model.text_encoder([negative]).to(self.device) if negative else None
            for name, stage in self.model.stages.items():
                done = torch.where(wanted.erased[name], MASK, wanted.codes[name])
                for tokens in sample_windows(self._plane, stage, done, text, generator, negative=away, low=low):
                    bar.advance(f"{do}, {name}")
                    done = tokens
                codes[name] = low = done
        nothing = {name: torch.zeros_like(grid) for name, grid in wanted.erased.items()}
        return self._add(Moment(codes, nothing, wanted.frozen, did | {"seed": seed}))

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()


def _told(region: Region | None) -> Any:
    """A region as the history tells it: text as it is, anything else as what it was."""
    if region is None or isinstance(region, str):
        return region
    if isinstance(region, tuple):
        return ",".join(map(str, region))
    if isinstance(region, Image.Image | Tensor | np.ndarray):
        return "a mask"
    return list(region)
