"""What encoder and decoder are made of: residual blocks, attention, changes of resolution; and which of them."""

from __future__ import annotations

from dataclasses import dataclass

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
