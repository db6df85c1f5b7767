"""Captioned pictures of any mode, some of which may be broken: what every source of pictures shares."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from muse_studio.errors import UserError, words_of
from muse_studio.images import reading
from muse_studio.images.pixels import from_image
from muse_studio.images.reading import on_white, upright
from muse_studio.registry.events import ProgressBar
from muse_training.data.captions import Account, Choice, class_names
from muse_training.data.encoder import MICRO
from muse_training.data.listing import printable

LARGEST = 8192
"""Pixels of a side: a picture of more would fill the memory before anything could refuse it."""
SHOWN = 10
"""Broken pictures that are named; the others are counted."""
CHECKED = 1024
"""Pictures that are given to the threads at a time."""


class UnusablePicture(Exception):
    """One picture that is left out: its `name`, and the `reason`. It stops nothing."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return printable(f"{self.name}: {self.reason}")


@runtime_checkable
class HasCandidates(Protocol):
    """A data set whose unusable pictures need not be known before it is read: each is reported when its turn comes."""

    def candidates(self) -> int:
        """How many pictures there are, broken ones among them."""

    def attempt(self, index: int) -> dict[str, Any]:
        """The record of a candidate; UnusablePicture where there is none."""


@runtime_checkable
class HasAccount(Protocol):
    """A data set that knows where its captions came from, and what lay there and was not used."""

    def account(self, left_out: Iterable[str] = ()) -> Account | None:
        """That, those of the pictures called `left_out` aside; None where it knows nothing of it after all."""


def account(dataset: Any, left_out: Iterable[str] = ()) -> Account | None:
    """Where a data set's captions came from; None where it does not know."""
    return dataset.account(left_out) if isinstance(dataset, HasAccount) else None


def candidates(dataset: Any) -> int:
    """How many records of a data set can be attempted."""
    return dataset.candidates() if isinstance(dataset, HasCandidates) else len(dataset)


def attempt(dataset: Any, index: int) -> dict[str, Any]:
    """One of a data set's candidates; UnusablePicture where it can't be read."""
    return dataset.attempt(index) if isinstance(dataset, HasCandidates) else dataset[index]


def list_unusable(pictures: Sequence[UnusablePicture]) -> str:
    """The first of them, a line each, and how many more there are."""
    more = [f"and {len(pictures) - SHOWN} more"] * (len(pictures) > SHOWN)
    return "\n  ".join([*map(str, pictures[:SHOWN]), *more])


def square_picture(file: Path | BinaryIO, size: int, smallest: int = 1, name: str = "a picture") -> Tensor:
    """A picture file as `measured_picture` reads it, uint8[3, size, size] alone."""
    return measured_picture(file, size, smallest, name)[0]


def measured_picture(
    file: Path | BinaryIO, size: int, smallest: int = 1, name: str = "a picture"
) -> tuple[Tensor, tuple[int, int]]:
    """A picture file of any mode as uint8[3, size, size], cut square from the middle and scaled; warnings say `name`.

    Beside it how wide and how high it was, in pixels.

    It is turned as its camera was held (EXIF), 16 bits of grey become 8, CMYK and palettes RGB, colour profiles sRGB,
    and what is transparent lies on white. ValueError where it is no picture, or has a side of less than `smallest`
    pixels; a picture that is damaged raises what pillow's readers have for it.
    """
    try:
        opened = reading.opened(file)
    except UnidentifiedImageError as error:
        raise ValueError("no picture that pillow can read") from error
    with opened:
        if min(opened.size) < smallest:
            raise ValueError(f"{opened.width}x{opened.height} pixels, and smallest is {smallest}")
        picture = on_white(upright(opened, name))
    return from_image(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)), picture.size


def of_middle(width: int, height: int, size: int, score: float = math.nan) -> Tensor:
    """float32[5], as `contracts.MICRO`, of the square in the middle of a picture, scaled to `size` pixels."""
    scale = size / min(width, height)
    top, left = ((side * scale - size) / 2 for side in (height, width))
    return torch.tensor([width, height, top, left, score])


def of_crop(micro: Tensor, shown: int, square: tuple[int, int, int], size: int, flipped: bool = False) -> Tensor:
    """float32[5] of a square that is cut out of a record's picture, of `shown` pixels a side, and scaled to `size`.

    square: its top, left and side. flipped: it is then turned left to right, which is as if the whole picture were.
    """
    top, left, side = square
    width, height, above, before, score = micro.tolist()
    scale = size / side
    top, left = (above + top) * scale, (before + left) * scale
    if flipped:
        left = width / min(width, height) * shown * scale - size - left
    return torch.tensor([width, height, top, left, score])


class Pictures(Dataset, ABC):
    """A source of captioned pictures: a subclass says how many there are, and each one's name, file and caption.

    As a data set it leaves the broken ones out, which it finds by reading every picture once, in threads, with one
    warning; `skipped` counts them. Who keeps what is made of each picture attempts the candidates instead.
    """

    where: str
    """What errors call the source."""

    def __init__(
        self,
        size: int,
        smallest: int,
        captions: Choice = "first",
        classes: str | list[str] | None = None,
        micro: bool = False,
    ) -> None:
        if not 1 <= size <= LARGEST:
            raise ValueError(f"size is {size}; give the pixels of a side, from 1 to {LARGEST}")
        if smallest < 1:
            raise ValueError(f"smallest is {smallest}; give the pixels of a side, 1 for any picture")
        self.size, self.smallest, self.captions, self.classes = size, smallest, captions, classes
        self.micro = micro

    @cached_property
    def _classes(self) -> list[str] | None:
        """The names of the classes that numbers stand for, where they were given."""
        return class_names(self.classes)

    @abstractmethod
    def candidates(self) -> int:
        """How many pictures there are, broken ones among them; UserError where there is none."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What the user knows a candidate by."""

    @abstractmethod
    def file(self, index: int) -> Path | BinaryIO:
        """A candidate's picture file."""

    @abstractmethod
    def caption(self, index: int) -> str:
        """A candidate's caption; ValueError where it has none."""

    @abstractmethod
    def score(self, index: int) -> float:
        """How beautiful a candidate is, NaN where nothing says so; ValueError where what says so is no number."""

    @abstractmethod
    def account(self, left_out: Iterable[str] = ()) -> Account:
        """Where the captions came from, those of the pictures called `left_out` aside, and what was not used."""

    def attempt(self, index: int) -> dict[str, Any]:
        """`{"image": uint8[3, size, size], "caption": str}` of a candidate; UnusablePicture where there is none.

        With `micro`, its micro-conditions too.
        """
        try:
            image, measures = measured_picture(self.file(index), self.size, self.smallest, self.name(index))
            record = {"image": image, "caption": self.caption(index)}
            return record | ({MICRO: of_middle(*measures, self.size, self.score(index))} if self.micro else {})
        except UserError:  # is about the source, not about this one picture
            raise
        except Exception as error:  # pillow's readers raise whatever a broken file leads them to
            raise UnusablePicture(self.name(index), words_of(error)) from error

    @property
    def skipped(self) -> int:
        """How many broken pictures are left out."""
        return self.candidates() - len(self._usable)

    @cached_property
    def _usable(self) -> list[int]:
        """The candidates that can be read."""
        count = self.candidates()
        problems: list[UnusablePicture | None] = []
        with ThreadPoolExecutor() as pool, ProgressBar(count) as bar:
            for start in range(0, count, CHECKED):
                for problem in pool.map(self._problem, range(start, min(start + CHECKED, count))):
                    problems.append(problem)
                    bar.advance(f"checking {count} pictures")
        broken = [problem for problem in problems if problem is not None]
        if broken:
            warnings.warn(
                f"{len(broken)} of {count} pictures in {self.where} left out:\n  {list_unusable(broken)}", stacklevel=2
            )
        if len(broken) == count:
            raise self.nothing()
        told = self.account(problem.name for problem in broken)
        if told.unused or told.mixed():
            warnings.warn(f"{self.where}: " + "\n".join(told.lines()), stacklevel=2)
        return [index for index, problem in enumerate(problems) if problem is None]

    def _problem(self, index: int) -> UnusablePicture | None:
        try:
            self.attempt(index)
        except UnusablePicture as error:
            return error
        return None

    @abstractmethod
    def nothing(self) -> UserError:
        """The error to raise where no picture can be read."""

    def __len__(self) -> int:
        return len(self._usable)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`{"image": uint8[3, size, size], "caption": str}`; UserError where it was broken since all were checked."""
        try:
            return self.attempt(self._usable[index])
        except UnusablePicture as error:
            raise UserError(
                f"{self.where}: {error}; it could be read when the run began: bring it back, or start the same command "
                "again to have it left out"
            ) from error
