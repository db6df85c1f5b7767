"""What is kept of any number of pictures in constant memory: a draw that does not depend on their order."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from muse_metrics.features import Features


def picture_keys(images: Tensor) -> Tensor:
    """uint8[B, 3, H, W] to int64[B], a number a picture that its pixels alone decide, evenly spread."""
    return torch.tensor(
        [
            int.from_bytes(hashlib.blake2b(picture.numpy().tobytes(), digest_size=8).digest(), "big", signed=True)
            for picture in images.cpu().contiguous()
        ],
        dtype=torch.int64,
    )


class FeatureSample:
    """The features of at most `capacity` pictures: those with the smallest keys of all seen (bottom-k sampling).

    As keys are spread evenly, that is a uniform draw without replacement; it is the same in any order and any batches.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.keys = torch.empty(0, dtype=torch.int64)
        self.rows = torch.empty(0, 0)

    def add(self, images: Tensor, features: Tensor) -> None:
        """uint8[B, 3, H, W] and float[B, D]; ValueError where D is not what it was."""
        check_width(self.rows if len(self) else None, features)
        joined = torch.cat([self.keys, picture_keys(images)])
        rows = torch.cat([self.rows, features]) if len(self) else features
        order = joined.argsort(stable=True)[: self.capacity]
        self.keys, self.rows = joined[order], rows[order]

    def __len__(self) -> int:
        return len(self.keys)


class SampledMetric:
    """What a metric of two sets keeps: `kept` pictures' `features` of each."""

    features: Features
    kept: int

    def reset(self) -> None:
        """Forget all pictures."""
        self.real, self.generated = FeatureSample(self.kept), FeatureSample(self.kept)

    def update(self, real: Tensor, generated: Tensor, prompts: list[str]) -> None:
        """uint8[B, 3, H, W] twice, of any sizes."""
        self.real.add(real, self.features(real))
        self.generated.add(generated, self.features(generated))


def check_width(before: Tensor | None, features: Tensor) -> None:
    """ValueError where features are not float[B, D] of the D that they had before."""
    if features.ndim != 2:
        raise ValueError(f"features are [B, D], got {list(features.shape)}")
    if before is not None and before.shape[-1] != features.shape[-1]:
        raise ValueError(f"features of {features.shape[-1]} numbers came after some of {before.shape[-1]}")
