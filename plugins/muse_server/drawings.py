"""Pictures for other programs: drawn or edited without a session, as values that all threads may hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from muse_studio.images.provenance import Provenance


@dataclass(frozen=True)
class Drawing:
    """What a program asks for.

    seed: of the first picture, the others' follow; by lot where it is None. count: of pictures. settings: of stages, by
    name. size: width and height that come out; where it is None, the picture's or else the model's own. picture: what
    is edited, in mode RGB, within region, bool[H, W] of its pixels, True where new ones go, or by words alone where
    that is None. editor: a part's table, such as {"use": "variations", "strength": 0.5}. partials: pictures on the way
    to each one. steps: whether each step is told.
    """

    prompt: str
    negative: str = ""
    seed: int | None = None
    count: int = 1
    settings: dict[str, Any] | None = None
    size: tuple[int, int] | None = None
    picture: Image.Image | None = field(default=None, repr=False)
    region: NDArray[np.bool_] | None = field(default=None, repr=False)
    editor: dict[str, Any] | None = None
    partials: int = 0
    steps: bool = False


@dataclass(frozen=True)
class Advanced:
    """A step, from 1 to `steps`, of a stage of picture `index` is done."""

    index: int
    stage: str
    step: int
    steps: int


@dataclass(frozen=True)
class Partial:
    """Picture `index` as it is on its way; `number` counts these from 0."""

    index: int
    number: int
    image: Image.Image


@dataclass(frozen=True)
class Finished:
    """Picture `index`, drawn and let through by the filters. tokens: of all stages."""

    index: int
    seed: int
    image: Image.Image
    provenance: Provenance
    tokens: int


Told: TypeAlias = Advanced | Partial | Finished
