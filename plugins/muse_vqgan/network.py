"""The fully convolutional encoder and decoder of VQGAN (Esser et al., 2021), without attention (Muse, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST_LEVEL = 3
"""Layers of a decoder before those of its levels."""


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation in 32 groups, or in the most that the channels allow."""
    groups = next(groups for groups in (32, 16, 8, 4, 2, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Residual(nn.Module):
    """Two normalised 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, channels, H, W] to float[B, out, H, W]."""
        y = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class Down(nn.Module):
    """Half the resolution by a strided convolution, padded right and below alone, as VQGAN has it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, C, H, W] to float[B, C, H/2, W/2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Twice the resolution: nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, C, H, W] to float[B, C, 2H, 2W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Encoder(nn.Module):
    """Pictures to latents. `patch` folds squares of pixels into channels before the first convolution."""

    def __init__(self, channels: int, multipliers: list[int], blocks: int, patch: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(patch)] if patch > 1 else []
        layers.append(nn.Conv2d(3 * patch**2, channels * multipliers[0], 3, padding=1))
        now = channels * multipliers[0]
        for level, multiplier in enumerate(multipliers):
            if level > 0:
                layers.append(Down(now))
            for _ in range(blocks):
                layers.append(Residual(now, channels * multiplier))
                now = channels * multiplier
        layers += [Residual(now, now), Residual(now, now), norm(now), nn.SiLU(), nn.Conv2d(now, width, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] in -1..1 to float[B, width, h, w]."""
        return self.layers(images)


class Decoder(nn.Module):
    """Latents to pictures: the encoder's mirror."""

    def __init__(self, channels: int, multipliers: list[int], blocks: int, patch: int, width: int) -> None:
        super().__init__()
        self.levels, self.blocks = len(multipliers), blocks
        now = channels * multipliers[-1]
        layers: list[nn.Module] = [nn.Conv2d(width, now, 3, padding=1), Residual(now, now), Residual(now, now)]
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(blocks):
                layers.append(Residual(now, channels * multiplier))
                now = channels * multiplier
            if level > 0:
                layers.append(Up(now))
        layers += [norm(now), nn.SiLU(), nn.Conv2d(now, 3 * patch**2, 3, padding=1)]
        layers += [nn.PixelShuffle(patch)] if patch > 1 else []
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """float[B, width, h, w] to float[B, 3, H, W], about -1..1."""
        return self.layers(latents)

    def grown(self, smaller: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors with which this decoder draws what another one draws, which has as many blocks a level or fewer.

        Each level's further blocks come last and add nothing yet. None where `smaller` are no such decoder's tensors:
        it has other channels, say, or more blocks.
        """
        own = self.state_dict()
        for blocks in range(self.blocks, -1, -1):
            kept = [layer for layer in range(len(self.layers)) if not self._is_further(layer, blocks)]
            places = {
                f"layers.{layer}.{name}": f"layers.{its}.{name}"
                for its, layer in enumerate(kept)
                for name in self.layers[layer].state_dict()
            }
            if {its: own[name].shape for name, its in places.items()} == {n: t.shape for n, t in smaller.items()}:
                silent = {n: torch.zeros_like(t) if ".conv2." in n else t for n, t in own.items()}
                return silent | {name: smaller[its] for name, its in places.items()}
        return None

    def _is_further(self, layer: int, blocks: int) -> bool:
        """Whether a layer is a residual block that a decoder with so many a level doesn't have."""
        level, block = divmod(layer - FIRST_LEVEL, self.blocks + 1)  # each level's blocks, then Up or the last norm
        return 0 <= level < self.levels and blocks <= block < self.blocks


def to_range(images: Tensor) -> Tensor:
    """0..1 to -1..1."""
    return images * 2 - 1


def from_range(images: Tensor) -> Tensor:
    """-1..1 to 0..1."""
    return (images + 1) / 2
