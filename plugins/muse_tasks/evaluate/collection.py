"""All real pictures of a data set, as an evaluation reads them: by split, and as one gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from muse_studio.contracts import Dataset
from muse_studio.registry.events import ProgressBar
from muse_tasks.evaluate.records import Record, Split, load
from muse_tasks.evaluate.retrieval import Gallery, features


@dataclass
class Collection:
    """The records of each split, the gallery of both, and the gallery's row at which each split begins."""

    splits: dict[Split, Sequence[Record]]
    gallery: Gallery
    starts: dict[Split, int]


def read(dataset: Dataset) -> Collection:
    """Every picture of the data set, once. Raises UserError where it has none."""
    splits = load(dataset)
    rows: list[Tensor] = []
    groups: list[str] = []
    starts: dict[Split, int] = {}
    with ProgressBar(sum(map(len, splits.values()))) as bar:
        for split, records in splits.items():
            starts[split] = len(rows)
            for record in records:
                rows.append(features(record["image"][None]))
                groups.append(record["group"])
                bar.advance("reading real pictures")
    return Collection(splits, Gallery(torch.cat(rows), groups), starts)
