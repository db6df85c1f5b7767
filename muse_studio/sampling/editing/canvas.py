"""A picture that is drawn and changed step by step, for notebooks and interfaces."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from muse_studio.contracts import MASK, TextEncoder
from muse_studio.errors import UserError
from muse_studio.images.pixels import to_images
from muse_studio.images.provenance import Provenance, write_png
from muse_studio.images.reading import on_white, open_picture, upright
from muse_studio.recipe.build import OBSERVERS
from muse_studio.recipe.running import ask_picture
from muse_studio.runtime.files import path_of
from muse_studio.sampling.cascade import Cascade, Watch, open_cascade
from muse_studio.sampling.drawn import Step
from muse_studio.sampling.editing import deeds, drawing, history
from muse_studio.sampling.editing.board import Board, Cells
from muse_studio.sampling.editing.composite import Composite
from muse_studio.sampling.editing.drawing import How
from muse_studio.sampling.editing.history import Moment, Saved
from muse_studio.sampling.editing.region import Region
from muse_studio.sampling.editing.windows import Layout
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
    and of how many actions came before, unless it is given one. `actions` tells them all, and `play` does them again.

    What draws takes `settings`, by stage, as `Model.using` does, for this one time; and `watch`, which is called after
    each step, and may raise what it likes: the canvas is then as it was before.

    dilate: rings of tokens around a region that are erased with it (see `region.to_cells`); frozen ones stay.
    keep_steps: `steps` then has every step of each action that drew.
    """

    def __init__(
        self,
        stages: dict[str, Stage],
        text_encoder: TextEncoder,
        seed: int = 0,
        device: str = "auto",
        dilate: int = 1,
        keep_steps: bool = False,
    ) -> None:
        self._start(Cascade(stages, text_encoder).on(device), seed, dilate, keep_steps)

    @classmethod
    def of(cls, model: Cascade, seed: int = 0, dilate: int = 1, keep_steps: bool = False) -> Canvas:
        """A blank canvas for a model that is ready to draw, with its recipe and filters."""
        canvas = cls.__new__(cls)
        canvas._start(model, seed, dilate, keep_steps)
        return canvas

    def _start(self, model: Cascade, seed: int, dilate: int, keep_steps: bool) -> None:
        self.model, self.seed, self.dilate, self.device = model, seed, dilate, model.device
        self.recipe, self.hook, self.keep_steps = model.recipe, model.hook, keep_steps
        self._board = Board(model.stages, model.device)
        self._composite = Composite(self._board)
        self._history = [self._board.blank()]
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
        now = self.now
        return {name: torch.where(now.erased[name], MASK, codes) for name, codes in now.codes.items()}

    @property
    def image(self) -> Image.Image:
        """The picture; cells that are erased are grey. What no action drew anew keeps its very pixels.

        Refused, a UserError, where a filter refuses what was drawn.
        """
        image = self._shown()
        return self._asked_for(image) if any("prompt" in did for did in self.history) else image

    def finished(self) -> Image.Image:
        """The picture as it may be written: as `image`, and a filter is asked of one that was only placed, too."""
        return self._asked_for(self._shown())

    def _asked_for(self, image: Image.Image) -> Image.Image:
        ask_picture(self.hook, image, self.prompt, self.seed)
        return image

    def _shown(self) -> Image.Image:
        return to_images(self._composite.of(self._history[: self._place + 1]))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; `extend` adds to them."""
        height, width = self._plane.picture
        return width, height

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was done, in order, up to now; what was undone is not among it."""
        return [deeds.shown(moment.did) for moment in self._history[1 : self._place + 1]]

    @property
    def now(self) -> Moment:
        """Its grids."""
        return self._history[self._place]

    @property
    def moments(self) -> tuple[Moment, ...]:
        """Its blank beginning, and what it was after each action, also those that were undone."""
        return tuple(self._history)

    def at(self, place: int) -> Canvas:
        """A copy that stands at so many actions, to act on; IndexError where there were not so many."""
        if not 0 <= place < len(self._history):
            raise IndexError(place)
        other = copy(self)  # its history is a list that no action changes: each makes a new one
        other._place = place
        return other

    def restore(self, moments: Sequence[Moment], place: int) -> Canvas:
        """Have it be what another one was, which stood at so many actions; ValueError where its model has no such."""
        if place not in range(len(moments)):
            raise ValueError(f"it stands at action {place} of {len(moments)}")
        self._board.check(moments)
        self._history, self._place = [each.to(self.device) for each in moments], place
        return self

    @property
    def actions(self) -> list[dict[str, Any]] | None:
        """As `history`, with all that `play` needs; None where an action was given what no text can say."""
        done = self._history[1 : self._place + 1]
        told = [did for moment in done if (did := deeds.played(moment.did)) is not None]
        return told if len(told) == len(done) else None

    @property
    def steps(self) -> list[Step]:
        """Every step of the last action, where it drew and steps are kept."""
        asked = (self.prompt, self.now.did.get("seed", self.seed))
        kept = self.now.steps
        return [Step(stage, step, of, tokens.long(), self.model, asked) for stage, step, of, tokens in kept]

    @property
    def prompt(self) -> str:
        """The prompt that was drawn last, empty before the first."""
        return next((did["prompt"] for did in reversed(self.history) if "prompt" in did), "")

    def play(self, actions: Sequence[Mapping[str, Any]], watch: Watch | None = None) -> Canvas:
        """Do actions as `actions` tells them; UserError, naming the place, where one is none."""
        deeds.check_actions(actions)
        for number, action in enumerate(actions):
            given = {key: value for key, value in action.items() if key != "do"}
            do: Any = self._place_tokens if action["do"] == "place" else getattr(self, action["do"])
            with deeds.at(number):
                do(**given, **({"watch": watch} if "prompt" in deeds.ACTIONS[action["do"]] else {}))
        return self

    def generate(self, prompt: str, **how: Unpack[How]) -> Canvas:
        """Draw all of the picture anew but for what is frozen."""
        return self._draw(None, self._asked("generate", prompt, **how))

    def reroll(self, region: Region | Cells | None = None, prompt: str | None = None, **how: Unpack[How]) -> Canvas:
        """Draw a region anew, but for what is frozen; the prompt is the last one unless another is given."""
        return self._draw(region, self._asked("reroll", prompt, **how))

    def fill(self, prompt: str | None = None, **how: Unpack[How]) -> Canvas:
        """Draw what is erased; the prompt is the last one unless another is given."""
        asked = self._asked("fill", prompt, **how)
        return self._add(drawing.draw(self.model, self.hook, self._plane, self.now, asked))

    def edit(
        self,
        prompt: str | None = None,
        region: Region | Cells | None = None,
        editor: Any = "mask-free",
        **how: Unpack[How],
    ) -> Canvas:
        """Change the picture by an editor, within a region, but for what is frozen: by words alone, or to variations.

        editor: the name of one, such as variations, a table as in a recipe, or an object. The first stage's tokens are
        its; later stages draw anew where it changed them. UserError where tokens are erased: fill them first.
        """
        cells = self._cells(region, self.dilate)
        asked = self._asked("edit", prompt, **how)
        plane, now = self._plane, self.now
        edited = drawing.edit(self.model, self.hook, plane, now, cells, editor, self.dilate, asked)
        return self._add(replace(edited, did=edited.did | {"region": deeds.told_region(region, cells)}))

    def extend(self, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0) -> Canvas:
        """Add so many pixels at the sides, rounded up to whole cells, as erased tokens: `fill` draws them.

        UserError where the picture would be larger than one that can be decoded.
        """
        sides = {"left": left, "top": top, "right": right, "bottom": bottom}
        return self._add(self._board.extended(self.now, sides))

    def erase(self, region: Region | Cells | None = None) -> Canvas:
        """Forget a region's tokens, but for those that are frozen."""
        cells = self._cells(region, self.dilate)
        erased = self._board.erased(self.now, cells)
        return self._add(replace(erased, did={"do": "erase", "region": deeds.told_region(region, cells)}))

    def freeze(self, region: Region | Cells | None = None) -> Canvas:
        """Keep a region's tokens, whatever is erased or drawn, until it is thawed."""
        cells = self._cells(region, 0)
        frozen = self._board.frozen(self.now, cells)
        return self._add(replace(frozen, did={"do": "freeze", "region": deeds.told_region(region, cells)}))

    def thaw(self, region: Region | Cells | None = None) -> Canvas:
        """Let a region change again."""
        cells = self._cells(region, 0)
        thawed = self._board.thawed(self.now, cells)
        return self._add(replace(thawed, did={"do": "thaw", "region": deeds.told_region(region, cells)}))

    def place(self, picture: str | Image.Image) -> Canvas:
        """Put a picture there, scaled and cut to the canvas's shape; what was frozen no longer is."""
        opened = open_picture(picture) if isinstance(picture, str) else on_white(upright(picture))
        with self.model.naming_faults(), torch.inference_mode():
            codes = {name: grid.clone() for name, grid in self._board.encoded(opened, self.now).items()}
        return self._add(self._board.placed(codes, picture if isinstance(picture, str) else "a picture"))

    def _place_tokens(self, tokens: Mapping[str, str]) -> Canvas:
        """As `place`, of a picture's tokens as an action tells them."""
        return self._add(self._board.placed(self._board.told(tokens, self.now.codes, codes=True), "a picture"))

    def undo(self) -> Canvas:
        """Take the last action back; at the beginning, nothing."""
        self._place = max(0, self._place - 1)
        return self

    def redo(self) -> Canvas:
        """Do again what was undone last; nothing where there is none."""
        self._place = min(len(self._history) - 1, self._place + 1)
        return self

    def save_picture(self, path: str | Path) -> Path:
        """Write a PNG that draws itself again, by `muse run`; UserError where a filter or the disk refuses it."""
        path, image = path_of(str(path)), self.finished()
        write_png(image, path, self.provenance)
        return path

    @property
    def provenance(self) -> Provenance:
        """What its picture says of itself: how it is drawn again."""
        placed = any(did["do"] == "place" for did in self.history)
        return Provenance(self._playing(), self.model.plugins, placed, self.prompt)

    def _playing(self) -> dict[str, Any] | None:
        """The recipe that draws the picture again: the model's, and all actions; None where there is none."""
        if self.recipe is None or self.actions is None:
            return None
        model = {key: each for key, each in self.recipe.items() if key != OBSERVERS}
        return {"use": "canvas", **model, "actions": self.actions, "seed": self.seed, "dilate": self.dilate}

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
        if model is not None:
            canvas = cls.of(model.on(device), saved.seed, saved.dilate)
        elif saved.recipe is not None:
            canvas = cls.open(saved.recipe, plugins=plugins, device=device, seed=saved.seed, dilate=saved.dilate)
        else:
            raise UserError(f"{path} carries no recipe, as its canvas was made of parts; give them as model")
        try:
            return canvas.restore(saved.history, saved.place)
        except ValueError as error:
            raise UserError(
                f"{path} is of a model with other stages or grids, or damaged ({error}); give its own model"
            ) from error

    @property
    def _plane(self) -> Layout:
        """The plane that the canvas is now, of one window or more."""
        return self._board.plane(self.now.codes)

    def _add(self, moment: Moment) -> Canvas:
        """The next moment; what was undone before it is gone."""
        self._history = [*self._history[: self._place + 1], moment]
        self._place += 1
        return self

    def _cells(self, region: Region | Cells | None, dilate: int) -> dict[str, Tensor]:
        return self._board.cells(region, self.now, dilate)

    def _asked(self, do: str, prompt: str | None, **how: Unpack[How]) -> drawing.Asked:
        """What an action is asked for, with what is meant where nothing is said: the last prompt, a seed of its own."""
        own = int(np.random.SeedSequence([self.seed, self._place]).generate_state(1, np.uint32)[0])
        given: dict[str, Any] = {"seed": None, **how}
        given["seed"] = own if given["seed"] is None else given["seed"]
        return drawing.Asked(do, self.prompt if prompt is None else prompt, keep=self.keep_steps, **given)

    def _draw(self, region: Region | Cells | None, asked: drawing.Asked) -> Canvas:
        """Erase a region, and draw all that is erased."""
        cells = self._cells(region, self.dilate)
        drawn = drawing.draw(self.model, self.hook, self._plane, self._board.erased(self.now, cells), asked)
        told = {"region": deeds.told_region(region, cells)} if asked.do == "reroll" else {}
        return self._add(replace(drawn, did=drawn.did | told))

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.image.save(file, "PNG")
        return file.getvalue()
