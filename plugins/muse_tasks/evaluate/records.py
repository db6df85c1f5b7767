"""The real pictures that a model is measured against, seen in training and held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, NotRequired, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from muse_studio.contracts import Dataset
from muse_studio.errors import UserError

Split = Literal["seen", "held-out"]
SPLITS: tuple[Split, ...] = ("seen", "held-out")


class Record(TypedDict):
    """A real picture uint8[3, H, W], its caption, and its group: the gallery that retrieval searches (a style).

    thing: the name of what it shows, by which it is recognised, where the data set says that.
    """

    image: Tensor
    caption: str
    group: str
    thing: NotRequired[str]


@runtime_checkable
class Evaluable(Protocol):
    """What a data set offers to be evaluated on: its pictures by split, the same ones in the same order every time."""

    def evaluation(self, split: Split) -> Sequence[Record]:
        """All pictures of the split, plain (without augmentation), each once."""


def load(dataset: Dataset) -> dict[Split, Sequence[Record]]:
    """The records of each split that has any.

    A data set without `evaluation` (a folder of pictures) can't say what training saw: all of it counts as seen, in
    one group "all". Raises UserError where there is no picture.
    """
    if isinstance(dataset, Evaluable):
        splits = {split: dataset.evaluation(split) for split in SPLITS}
    else:
        splits = {"seen": _Whole(dataset)}
    found = {split: records for split, records in splits.items() if len(records)}
    if not found:
        raise UserError("dataset: it has no picture to evaluate on; give one that has, such as dataset.use=emoji")
    return found


class _Whole(Sequence[Record]):
    """Every picture of a data set, read when it is asked for: a large folder would not fit in memory."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]  # nobody cuts it
        if not 0 <= index < len(self):
            raise IndexError(index)  # which is how iteration ends
        record = self.dataset[index]
        return Record(image=record["image"], caption=record["caption"], group="all")


def stream(seed: int, *purpose: str) -> torch.Generator:
    """A generator for one purpose, so that one measure's draws never shift another's."""
    digest = hashlib.sha256("/".join([str(seed), *purpose]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
