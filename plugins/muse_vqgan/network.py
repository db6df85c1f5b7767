"""The convolutional encoder and decoder of VQGAN (Esser et al., 2021), in Muse's layout and in published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class EchoResidual(nn.Module):
    """MaskGIT's: no bias; where channels change, what is added is a 1x1 map of the block's own result, not its input.

    A slip of its published code, with which its weights were trained.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.norm2, self.conv2 = norm(out), nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.shortcut = None if channels == out else nn.Conv2d(out, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, channels, H, W] to float[B, out, H, W]."""
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return y + (x if self.shortcut is None else self.shortcut(y))


class Attention(nn.Module):
    """Self-attention of every place to every place, by one head (VQGAN, section 3.1 and its code)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.project, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, channels, H, W] to the same."""
        query, key, value = self.project(self.norm(x).flatten(2).transpose(1, 2))[:, None].chunk(3, -1)
        attended = self.out(F.scaled_dot_product_attention(query, key, value)[:, 0])
        return x + attended.transpose(1, 2).view_as(x)


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


@dataclass(frozen=True)
class Layout:
    """Which layers a network has. attention, maskgit: as VQGAN's settings."""

    attention: bool = False
    maskgit: bool = False

    def block(self, channels: int, out: int, smallest: bool) -> list[nn.Module]:
        """One block of a level, and what follows it at the smallest resolution."""
        block = EchoResidual(channels, out) if self.maskgit else Residual(channels, out)
        return [block, Attention(out)] if self.attention and smallest else [block]

    def middle(self, channels: int) -> list[nn.Module]:
        """Two blocks at the smallest resolution, with attention between them."""
        return [*self.block(channels, channels, True), *self.block(channels, channels, False)]

    def down(self, channels: int) -> nn.Module:
        """Half the resolution."""
        return nn.AvgPool2d(2) if self.maskgit else Down(channels)

    def first(self, channels: int, out: int) -> nn.Module:
        """From pixels."""
        return nn.Conv2d(channels, out, 3, padding=1, bias=not self.maskgit)

    def last(self, channels: int, width: int) -> nn.Module:
        """To latents."""
        return nn.Conv2d(channels, width, 1) if self.maskgit else nn.Conv2d(channels, width, 3, padding=1)


MUSE = Layout()
"""Muse's own: no attention (section 2.2)."""


class Encoder(nn.Module):
    """Pictures to latents. `patch` folds squares of pixels into channels before the first convolution."""

    def __init__(
        self, channels: int, multipliers: list[int], blocks: int, patch: int, width: int, layout: Layout = MUSE
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(patch)] if patch > 1 else []
        layers.append(layout.first(3 * patch**2, channels * multipliers[0]))
        now = channels * multipliers[0]
        for level, multiplier in enumerate(multipliers):
            if level > 0:
                layers.append(layout.down(now))
            for _ in range(blocks):
                layers += layout.block(now, channels * multiplier, level == len(multipliers) - 1)
                now = channels * multiplier
        layers += [*layout.middle(now), norm(now), nn.SiLU(), layout.last(now, width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] of the network's own range to float[B, width, h, w]."""
        return self.layers(images)


class Decoder(nn.Module):
    """Latents to pictures: the encoder's mirror."""

    def __init__(
        self, channels: int, multipliers: list[int], blocks: int, patch: int, width: int, layout: Layout = MUSE
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.block_of: dict[int, int] = {}  # of each layer that is of a block, which one of its level that is
        self.ends: dict[int, int] = {}  # how many layers there are before the pixels, or before each level's doubling
        now = channels * multipliers[-1]
        layers: list[nn.Module] = [nn.Conv2d(width, now, 3, padding=1), *layout.middle(now)]
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for block in range(blocks):
                added = layout.block(now, channels * multiplier, level == len(multipliers) - 1)
                self.block_of |= dict.fromkeys(range(len(layers), len(layers) + len(added)), block)
                layers += added
                now = channels * multiplier
            self.ends[level] = len(layers)
            if level > 0:
                layers.append(Up(now))
        layers += [norm(now), nn.SiLU(), nn.Conv2d(now, 3 * patch**2, 3, padding=1)]
        layers += [nn.PixelShuffle(patch)] if patch > 1 else []
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """float[B, width, h, w] to float[B, 3, H, W], about its own range."""
        return self.layers(latents)

    def grow_from(self, smaller: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors with which this decoder draws what another one draws, which has as many blocks a level or fewer.

        Each level's further blocks come last and add nothing yet. Where this one has further levels, it starts as the
        other one up to those, and afresh behind them. None where `smaller` are no such decoder's tensors: it has other
        channels, say, or more blocks.
        """
        own = self.state_dict()
        for level, end in sorted(self.ends.items()):
            for blocks in range(self.blocks, -1, -1):
                kept = [layer for layer in range(end) if self.block_of.get(layer, -1) < blocks]
                last = range(end, len(self.layers)) if level == 0 else ()
                places = {
                    f"layers.{layer}.{name}": f"layers.{its}.{name}"
                    for its, layer in enumerate([*kept, *last])
                    for name in self.layers[layer].state_dict()
                }
                its_last = tuple(f"layers.{len(kept) + place}." for place in range(3)) if level else ()
                theirs = {name: part for name, part in smaller.items() if not name.startswith(its_last)}
                if {its: own[n].shape for n, its in places.items()} == {n: t.shape for n, t in theirs.items()}:
                    silent = {n for n in own if int(n.split(".")[1]) < end and (".conv2." in n or ".out." in n)}
                    start = {n: torch.zeros_like(t) if n in silent else t for n, t in own.items()}
                    return start | {name: smaller[its] for name, its in places.items()}
        return None


def to_range(images: Tensor) -> Tensor:
    """0..1 to -1..1."""
    return images * 2 - 1


def from_range(images: Tensor) -> Tensor:
    """-1..1 to 0..1."""
    return (images + 1) / 2
