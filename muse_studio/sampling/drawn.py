"""What a model draws for Python: a picture in memory, and the steps on its way."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from muse_studio.images.pixels import to_images
from muse_studio.images.provenance import Provenance, write_png
from muse_studio.images.reading import on_white, open_picture, upright
from muse_studio.recipe.running import ask_picture
from muse_studio.runtime.files import path_of
from muse_studio.sampling.arguments import described
from muse_studio.sampling.cascade import Cascade
from muse_studio.sampling.editing.region import Region
from muse_studio.sampling.previews import previews


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn; a notebook shows it.

    tokens: each stage's, int64[1, h, w]. recipe: draws it again, by `muse_studio.run`; None where the model has none.
    """

    image: Image.Image
    tokens: dict[str, Tensor] = field(repr=False)
    prompt: str
    seed: int
    recipe: dict[str, Any] | None = field(default=None, repr=False)
    plugins: dict[str, str] | None = field(default=None, repr=False)
    edited: bool = False

    def save(self, path: str | Path) -> Path:
        """Write a PNG that carries the recipe, in place of what is there; UserError where the disk refuses."""
        path = path_of(str(path))
        write_png(self.image, path, Provenance(self.recipe, self.plugins, self.edited, self.prompt))
        return path

    def _repr_png_(self) -> bytes:
        return _png(self.image)


@dataclass(frozen=True)
class Step:
    """What is known of a picture after a step, from 1 to `steps`, of a stage.

    tokens: int64[1, h, w], MASK where nothing is known.
    """

    stage: str
    step: int
    steps: int
    tokens: Tensor = field(repr=False)
    _model: Cascade = field(repr=False)
    _asked: tuple[str, int] = field(repr=False)

    @cached_property
    def image(self) -> Image.Image:
        """The tokens as a picture, in which masked cells are grey; decoded when it is first asked for.

        Refused, a UserError, where no cell is masked any more, at this stage, and a filter refuses the picture.
        """
        stage = self._model.stages[self.stage]
        with torch.inference_mode():
            shown = next(previews(stage, [self.tokens, self.tokens.clamp(min=0)]))
        image = to_images(shown)[0]
        if self.step == self.steps:
            ask_picture(self._model.hook, image, *self._asked)
        return image

    def _repr_png_(self) -> bytes:
        return _png(self.image)


def opened(picture: Picture | Image.Image | str | Path) -> tuple[Image.Image, Any]:
    """A picture of mode RGB, and how a recipe names it: by its path, or as the object that it is."""
    if isinstance(picture, str | Path):
        return open_picture(str(picture)), str(picture)
    if isinstance(picture, Picture):
        return picture.image, picture
    if not isinstance(picture, Image.Image):
        wanted = "expected a picture of draw, one of pillow, or a file's path"
        raise TypeError(f"picture: {wanted}, got {described(picture)}; make it by muse_studio.to_image(tensor)")
    return on_white(upright(picture)), picture


def written(region: Region | None) -> Any:
    """A region as the setting of a recipe has it: boxes as text; a mask in memory stays itself."""
    if isinstance(region, tuple | list) and len(region) == 4 and all(isinstance(each, int) for each in region):
        return ",".join(map(str, region))
    if isinstance(region, tuple | list):
        return [written(each) for each in region]
    return region


def cloned(tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tokens of inference mode as such that may take part in training."""
    return {name: grid.clone() for name, grid in tokens.items()}


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
