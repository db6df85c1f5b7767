"""What the batches of one split add up to, while an evaluation runs."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from muse_studio.images.pixels import to_images
from muse_studio.images.sheets import Tile
from muse_studio.sampling.stage import Stage
from muse_tasks.evaluate.records import Record
from muse_tasks.evaluate.retrieval import Gallery, recall
from muse_tasks.evaluate.shown.recognition import Judge, Recognised


class Totals:
    """What is gathered: lists hold one tensor a batch, `targets` the gallery's row of each picture.

    Keys begin with the stage's name. psnr: of what; right, loss: at which mask ratio, and given which low-resolution
    tokens; features: of which pictures. recognised: what the judge, where there is one, makes of the pictures.
    """

    def __init__(self, stages: dict[str, Stage], judge: Judge | None = None) -> None:
        self.targets: list[int] = []
        self.recognised = Recognised(judge)
        self.psnr: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self.right: dict[tuple[str, float], list[Tensor]] = defaultdict(list)
        self.loss: dict[tuple[str, float, str], list[Tensor]] = defaultdict(list)
        self.features: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        self.codes = {
            name: torch.zeros(stage.tokenizer.codebook_size, dtype=torch.int64) for name, stage in stages.items()
        }
        self.tiles: list[Tile] = []

    def keep(self, real: list[Record], generated: list[Tensor], most: int) -> None:
        """The first `most` pictures, for the contact sheet; generated: each stage's uint8[B, 3, H, W]."""
        stages = [to_images(pictures) for pictures in generated]
        for record, *drawn in zip(real[: most - len(self.tiles)], *stages, strict=False):
            self.tiles.append(Tile([*to_images(record["image"][None]), *drawn], record["caption"]))

    def retrieval(self, gallery: Gallery, stage: str) -> dict[str, dict[str, float]]:
        """R@1 and R@5 of a stage's generated pictures, of reconstructed ones where there are any, and by chance."""
        found = {}
        for query in ("generated", "reconstructed"):
            if (stage, query) not in self.features:
                continue
            ranks = gallery.ranks(torch.cat(self.features[stage, query]), self.targets)
            found[query] = {f"R@{k}": recall(ranks, k) for k in (1, 5)}
        found["chance"] = {f"R@{k}": gallery.chance(self.targets, k) for k in (1, 5)}
        return found


def mean(tensors: list[Tensor]) -> float:
    """Of all numbers in them."""
    return torch.cat(tensors).double().mean().item()
