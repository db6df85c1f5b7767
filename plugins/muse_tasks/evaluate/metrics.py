"""The metrics of an evaluation: fed with pictures as they are drawn, one split after another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from muse_studio.contracts import Metric
from muse_studio.errors import UserError
from muse_studio.runtime.device import move_to_device
from muse_studio.sampling.stage import Stage
from muse_tasks.evaluate.records import Record

DRAWN, RECONSTRUCTED = "drawn_metrics", "reconstruction_metrics"
"""What metrics.json calls the two."""


class PictureMetrics:
    """Metrics of drawn pictures, and of reconstructed ones.

    found: what was found so far, {which: {name: {split: {number: value}}}}, without the metrics that there are none of.
    meanings: what each number means, by its name.
    UserError where a metric's network can't be had.
    """

    def __init__(self, drawn: dict[str, Metric], reconstructed: dict[str, Metric], device: torch.device) -> None:
        self.metrics = {which: each for which, each in ((DRAWN, drawn), (RECONSTRUCTED, reconstructed)) if each}
        move_to_device(self.metrics, device)
        self.found: dict[str, Any] = {which: defaultdict(dict) for which in self.metrics}
        self.meanings = {number: message for _, _, metric in self._all() for number, message in metric.meanings.items()}
        self.split = ""

    def check(self, counts: Mapping[str, int]) -> None:
        """UserError where a split has fewer pictures than a metric needs."""
        for which, name, metric in self._all():
            for split, count in counts.items():
                if count < metric.least:
                    setting = which if which == RECONSTRUCTED else "metrics"
                    raise UserError(
                        f"{setting}.{name} needs {metric.least} pictures at least, and {count} are {split}; "
                        "raise n, or give a data set that has more"
                    )

    def start(self, split: str) -> None:
        """What follows is of this split."""
        self.split = split
        for _, _, metric in self._all():
            metric.reset()

    def add_drawn(self, records: Sequence[Record], stage: Stage, pictures: Tensor) -> None:
        """Pictures uint8[B, 3, H, W] that the stage drew for the captions of the records."""
        self._add(DRAWN, records, stage, pictures)

    def add_reconstructed(self, records: Sequence[Record], stage: Stage, pictures: Tensor) -> None:
        """The records' pictures through the stage's tokenizer, uint8[B, 3, H, W]."""
        self._add(RECONSTRUCTED, records, stage, pictures)

    def finish(self) -> None:
        """The split is done: its numbers go into `found`."""
        for which, name, metric in self._all():
            self.found[which][name][self.split] = dict(zip(metric.meanings, metric.compute().tolist(), strict=True))

    def _add(self, which: str, records: Sequence[Record], stage: Stage, pictures: Tensor) -> None:
        if which in self.metrics:
            real = torch.stack([stage.resize(record["image"]) for record in records])
            for metric in self.metrics[which].values():
                metric.update(real, pictures, [record["caption"] for record in records])

    def _all(self) -> list[tuple[str, str, Metric]]:
        return [(which, name, metric) for which, metrics in self.metrics.items() for name, metric in metrics.items()]
