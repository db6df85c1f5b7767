"""The task `train-recogniser`: teaches a linear judge the things of a data set, from real pictures alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from muse_metrics.features import Features
from muse_metrics.linear import fit_linear
from muse_metrics.recognition import TOP
from muse_studio.contracts import Dataset
from muse_studio.errors import SettingError, UserError
from muse_studio.images.pixels import scaled
from muse_studio.registry.events import ProgressBar
from muse_studio.runtime import weights
from muse_studio.runtime.device import choose_device
from muse_studio.runtime.files import open_folder, path_of

SPLITS = ("seen", "held-out")
BATCH = 64
"""Pictures whose features are computed at once."""


@runtime_checkable
class Named(Protocol):
    """What a data set offers: its pictures by split, each with the name of what it shows."""

    def evaluation(self, split: Any) -> Sequence[Any]:
        """`{"image": uint8[3, H, W], "thing": str, ...}` of each picture of "seen" or "held-out"."""


@dataclass
class Recogniser:
    """The judge that was written, and how it does on real pictures: shares by split and size, top-1 and top-5."""

    path: Path
    shares: dict[str, dict[int, tuple[float, ...]]]

    def summary(self) -> str:
        """What the command line prints."""
        lines = [
            f"{split} pictures at {size} px: " + ", ".join(f"top-{k} {s:.3f}" for k, s in zip(TOP, found, strict=True))
            for split, sizes in self.shares.items()
            for size, found in sizes.items()
        ]
        return "\n".join([*lines, str(self.path)])


@dataclass
class TrainRecogniser:
    """Train the judge of the metric `recognition`: a linear classifier of things over a network's features.

    It learns from the pictures that training may see, and is tried on those and on the held-out ones.

    dataset: one whose `evaluation(split)` names the "thing" that each picture shows.
    out: the file to write, of 16-bit floats.
    sizes: pixels of a side at which each picture is learned from; smaller ones are what small stages draw.
    epochs, batch, rate, decay: of the training, see `linear.fit_linear`.
    """

    dataset: Dataset
    features: Features = field(default_factory=Features)
    out: str = "runs/recogniser.safetensors"
    sizes: list[int] = field(default_factory=lambda: [128, 64])
    epochs: int = 12
    batch: int = 512
    rate: float = 2e-3
    decay: float = 0.1
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise SettingError(name, f"{name} is {getattr(self, name)}; give at least 1")
        if not self.sizes or min(self.sizes) < 8:
            raise SettingError("sizes", f"sizes is {self.sizes}; give one or more, of 8 pixels at least")

    def __call__(self, hook: Any = None) -> Recogniser:
        """Train and write. UserError where pictures have no names, or the file can't be written."""
        path = path_of(self.out)
        open_folder(path.parent, "out")
        self.features.to(choose_device(self.device))
        records = self._records()
        names = {split: [record["thing"] for record in found] for split, found in records.items()}
        things = sorted(set(names["seen"]))
        rows = self._rows(records)
        number = {thing: place for place, thing in enumerate(things)}
        classes = torch.tensor([number[name] for name in names["seen"]]).repeat(len(self.sizes))
        weight, bias = fit_linear(
            torch.cat([rows["seen", size] for size in self.sizes]),
            classes,
            len(things),
            epochs=self.epochs,
            rate=self.rate,
            decay=self.decay,
            batch=self.batch,
            seed=self.seed,
        )
        settings = {"things": things, "features": {"network": self.features.network, "side": self.features.side}}
        kept = {"weight": weight.half(), "bias": bias.half()}
        weights.save(kept, path, settings)
        shares: dict[str, dict[int, tuple[float, ...]]] = {split: {} for split in records}
        for split, size in rows:
            logits = rows[split, size] @ kept["weight"].float().T + kept["bias"].float()
            shares[split][size] = top_shares(logits, [number.get(name) for name in names[split]])
        return Recogniser(path, shares)

    def _records(self) -> dict[str, Sequence[Any]]:
        found = {}
        if isinstance(self.dataset, Named):
            found = {split: self.dataset.evaluation(split) for split in SPLITS}
            found = {split: records for split, records in found.items() if len(records)}
        if "seen" not in found or any("thing" not in records[0] for records in found.values()):
            raise UserError("dataset: it names nothing that its pictures show; give one that does, such as emoji")
        return found

    def _rows(self, records: dict[str, Sequence[Any]]) -> dict[tuple[str, int], Tensor]:
        """float32[N, D] of each split and size."""
        rows: dict[tuple[str, int], list[Tensor]] = {}
        with ProgressBar(len(self.sizes) * sum(map(len, records.values()))) as bar:
            for split, found in records.items():
                for start in range(0, len(found), BATCH):
                    images = torch.stack([record["image"] for record in found[start : start + BATCH]]).float()
                    for size in self.sizes:
                        small = scaled(images, (size, size)).round().clamp(0, 255).byte()
                        rows.setdefault((split, size), []).append(self.features(small).float())
                        bar.advance(f"{split} pictures", len(images))
        return {key: torch.cat(parts) for key, parts in rows.items()}


def top_shares(logits: Tensor, classes: Sequence[int | None]) -> tuple[float, ...]:
    """Of float[N, K] and N classes, None for one that isn't among them, the share among the first k, for each of TOP.

    Ties count against it.
    """
    known = torch.tensor([each is not None for each in classes])
    own = torch.tensor([each or 0 for each in classes])
    ranks = (logits >= logits.gather(1, own[:, None])).sum(1) - 1
    return tuple((known & (ranks < k)).double().mean().item() for k in TOP)
