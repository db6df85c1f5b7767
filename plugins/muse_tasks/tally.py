"""What the batches of one split add up to, while an evaluation runs."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from muse_studio.stage import Stage
from muse_tasks.pictures import to_images
from muse_tasks.records import Record
from muse_tasks.retrieval import Gallery, recall
from muse_tasks.sheet import Tile


class Tally:
    """What is gathered: lists hold one tensor a batch, `targets` the gallery's row of each picture."""

    def __init__(self, stages: dict[str, Stage]) -> None:
        self.targets: list[int] = []
        self.psnr: dict[str, list[Tensor]] = defaultdict(list)
        self.right: dict[tuple[str, float], list[Tensor]] = defaultdict(list)
        self.loss: dict[tuple[str, float], list[Tensor]] = defaultdict(list)
        self.features: dict[str, list[Tensor]] = defaultdict(list)
        self.codes = {
            name: torch.zeros(stage.tokenizer.codebook_size, dtype=torch.int64) for name, stage in stages.items()
        }
        self.tiles: list[Tile] = []

    def keep(self, real: list[Record], generated: Tensor, most: int) -> None:
        """The first `most` pairs, for the contact sheet; generated: uint8[B, 3, H, W]."""
        for record, drawn in zip(real[: most - len(self.tiles)], to_images(generated), strict=False):
            self.tiles.append(Tile([*to_images(record["image"][None]), drawn], record["caption"]))

    def retrieval(self, gallery: Gallery) -> dict[str, dict[str, float]]:
        """R@1 and R@5 of the generated pictures, of the reconstructed ones, and by chance."""
        found = {}
        for query in ("generated", "reconstructed"):
            ranks = gallery.ranks(torch.cat(self.features[query]), self.targets)
            found[query] = {f"R@{k}": recall(ranks, k) for k in (1, 5)}
        found["chance"] = {f"R@{k}": gallery.chance(self.targets, k) for k in (1, 5)}
        return found
