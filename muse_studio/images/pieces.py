"""Which pixels of a mask hang together: its pieces, as a person counts things."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def label_pieces(masks: Tensor) -> Tensor:
    """bool[B, H, W] to int64[B, H, W]: the same number at all pixels of a piece and another one in each, 0 at none.

    Pixels hang together that share a side. Each one starts with its own place as its number, and takes the highest of
    those beside it, and then what the pixel of that place has, until no number changes: by such leaps a winding piece
    takes few rounds.
    """
    count, height, width = masks.shape
    labels = (
        torch.arange(1, height * width + 1, device=masks.device, dtype=torch.float64).view(1, height, width) * masks
    )
    while True:
        across = F.max_pool2d(labels[:, None], (1, 3), 1, (0, 1))
        down = F.max_pool2d(labels[:, None], (3, 1), 1, (1, 0))
        spread = (torch.maximum(across, down)[:, 0] * masks).flatten(1)
        leapt = spread.gather(1, (spread.long() - 1).clamp(min=0)) * (spread > 0)
        spread = torch.maximum(spread, leapt).view(count, height, width)
        if torch.equal(spread, labels):
            return labels.long()
        labels = spread


def split_pieces(mask: Tensor) -> list[Tensor]:
    """bool[H, W] to the masks of its pieces, bool[H, W] each, the largest first; of equal ones, the lower one first."""
    labels = label_pieces(mask[None])[0]
    numbers, sizes = labels[mask].unique(return_counts=True)
    order = sorted(zip(sizes.tolist(), numbers.tolist(), strict=True), reverse=True)
    return [labels == number for _, number in order]
