"""More records of the same pictures: cropped and flipped by lot."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.contracts import Dataset
from muse_training.data.captions import Account
from muse_training.data.encoder import MICRO
from muse_training.data.pictures import LARGEST, account, attempt, candidates, of_crop


class Augmented:
    """Every record of a data set in several variants: the first as it is, the others cropped and flipped by lot.

    Record i of variant v is the (v * n + i)-th of n * variants; what the lot says is a function of the seed and of that
    number alone. A crop is square and scaled back to the picture's size; give the data set inside a larger size than
    `size`, and a crop stays as sharp as the picture.

    crop: a crop's share of the area is drawn from [crop, 1]. flip: half of the variants are turned left to right; off,
    since a caption may say left and right. size: pixels of a side; by default those of the data set inside.
    """

    def __init__(
        self,
        dataset: Dataset,
        variants: int = 4,
        crop: float = 0.8,
        flip: bool = False,
        size: int | None = None,
        seed: int = 0,
    ) -> None:
        if variants < 1:
            raise ValueError(f"variants is {variants}; give 1 record a picture or more")
        if not 0 < crop <= 1:
            raise ValueError(f"crop is {crop}; it is a share of the area, above 0 and at most 1")
        if size is not None and not 1 <= size <= LARGEST:
            raise ValueError(f"size is {size}; give the pixels of a side, from 1 to {LARGEST}")
        if seed < 0:
            raise ValueError(f"seed is {seed}; give 0 or more")
        self.dataset, self.variants, self.crop, self.flip = dataset, variants, crop, flip
        self.size, self.seed = size, seed

    def candidates(self) -> int:
        """How many records there are, those of broken pictures among them."""
        return candidates(self.dataset) * self.variants

    def attempt(self, index: int) -> dict[str, Any]:
        """The record of a candidate; UnusablePicture where its picture is broken."""
        return self._vary(attempt(self.dataset, index % candidates(self.dataset)), index, candidates(self.dataset))

    def account(self, left_out: Iterable[str] = ()) -> Account | None:
        """What the data set inside says of its captions and of what it did not use."""
        return account(self.dataset, left_out)

    def __len__(self) -> int:
        return len(self.dataset) * self.variants

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The record of the data set inside, its image uint8[3, size, size]."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._vary(self.dataset[index % len(self.dataset)], index, len(self.dataset))

    def _vary(self, record: dict[str, Any], index: int, count: int) -> dict[str, Any]:
        image, flipped = record["image"], False
        shown, size = min(image.shape[-2:]), self.size or image.shape[-1]
        square = (0, 0, shown)
        if index >= count:
            random = np.random.default_rng([self.seed, index])
            top, left, side = square = self._square(image.shape[-2:], *random.random(3))
            image, flipped = image[..., top : top + side, left : left + side], self.flip and random.random() < 0.5
        varied = record | {"image": scaled(image.flip(-1) if flipped else image, size)}
        if MICRO in record:
            varied[MICRO] = of_crop(record[MICRO], shown, square, size, flipped)
        return varied

    def _square(self, shape: torch.Size, share: float, down: float, right: float) -> tuple[int, int, int]:
        """Top, left and side of the square whose area is drawn from [crop, 1] of the picture's, placed anywhere."""
        side = max(1, round(min(shape) * math.sqrt(self.crop + (1 - self.crop) * share)))
        top, left = (round(lot * (length - side)) for lot, length in zip((down, right), shape, strict=True))
        return top, left, side


def scaled(image: Tensor, size: int) -> Tensor:
    """uint8[3, h, w] to uint8[3, size, size], bicubic and antialiased; the very same where it fits."""
    if image.shape[-2:] == (size, size):
        return image.contiguous()
    large = F.interpolate(image[None].float(), (size, size), mode="bicubic", antialias=True)[0]
    return large.round().clamp(0, 255).byte()
