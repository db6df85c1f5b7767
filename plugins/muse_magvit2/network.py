"""Open-MAGVIT2's encoder, and its decoder, which norms each level by what the codes are as a whole."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6
"""Of every norm."""
GROUPS = 32


class Residual(nn.Module):
    """Two normalised 3x3 convolutions without bias beside a shortcut."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, channels, EPS), nn.GroupNorm(GROUPS, out, EPS)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, channels, H, W] to float[B, out, H, W]."""
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return y + self.shortcut(x)


def blocks(channels: int, out: int, count: int) -> nn.Sequential:
    """Residual blocks one after the other, the first of which changes the channels."""
    return nn.Sequential(*(Residual(channels if number == 0 else out, out) for number in range(count)))


class Encoder(nn.Module):
    """Pictures to latents; each level but the last halves the resolution behind its blocks."""

    def __init__(self, channels: int, multipliers: list[int], count: int, width: int) -> None:
        super().__init__()
        wide = [channels * each for each in multipliers]
        self.first = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(blocks(*pair, count) for pair in zip([channels, *wide], wide, strict=False))
        self.shrink = nn.ModuleList(nn.Conv2d(each, each, 3, stride=2, padding=1) for each in wide[:-1])
        self.middle = blocks(wide[-1], wide[-1], count)
        self.norm, self.last = nn.GroupNorm(GROUPS, wide[-1], EPS), nn.Conv2d(wide[-1], width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """float[B, 3, H, W] in -1..1 to float[B, width, h, w]."""
        x = self.first(images)
        for level, shrink in zip(self.levels, [*self.shrink, nn.Identity()], strict=True):
            x = shrink(level(x))
        return self.last(F.silu(self.norm(self.middle(x))))


class Adapt(nn.Module):
    """A group norm whose gain and shift are made of each bit's spread and mean over the whole grid."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Linear(width, channels), nn.Linear(width, channels)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """float[B, channels, H, W] by codes float[B, width, h, w] to the same as x."""
        flat = codes.flatten(2)
        # Of one place alone there is no spread, where the original has no number.
        spread = flat.var(-1, correction=1 if flat.shape[-1] > 1 else 0)
        gain, shift = self.gain((spread + EPS).sqrt()), self.shift(flat.mean(-1))
        return F.group_norm(x, GROUPS, eps=EPS) * gain[..., None, None] + shift[..., None, None]


class Decoder(nn.Module):
    """Codes to pictures. Levels count from the largest resolution, as the encoder's, and act from the smallest on."""

    def __init__(self, channels: int, multipliers: list[int], count: int, width: int) -> None:
        super().__init__()
        wide = [channels * each for each in multipliers]
        before = [*wide[1:], wide[-1]]
        self.first = nn.Conv2d(width, wide[-1], 3, padding=1)
        self.middle = blocks(wide[-1], wide[-1], count)
        self.adapt = nn.ModuleList(Adapt(width, each) for each in before)
        self.levels = nn.ModuleList(blocks(*pair, count) for pair in zip(before, wide, strict=True))
        self.grow = nn.ModuleList(nn.Conv2d(each, 4 * each, 3, padding=1) for each in wide[1:])
        self.norm, self.last = nn.GroupNorm(GROUPS, wide[0], EPS), nn.Conv2d(wide[0], 3, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """float[B, width, h, w] to float[B, 3, H, W], about -1..1."""
        x = self.middle(self.first(codes))
        for number in reversed(range(len(self.levels))):
            x = self.levels[number](self.adapt[number](x, codes))
            if number > 0:
                x = depth_to_space(self.grow[number - 1](x))
        return self.last(F.silu(self.norm(x)))


def depth_to_space(x: Tensor) -> Tensor:
    """float[B, 4 C, H, W] to float[B, C, 2 H, 2 W]; the place in the square is the channels' outer axis.

    (It is the inner one of torch's pixel_shuffle.)
    """
    count, channels, height, width = x.shape
    parts = x.view(count, 2, 2, channels // 4, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(count, channels // 4, 2 * height, 2 * width)
