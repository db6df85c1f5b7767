"""EfficientNet-Lite0, an ImageNet classifier small enough for a CPU, by the names of its PyTorch weights."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Kernel, stride of the first block, expansion, channels, blocks (EfficientNet, table 1, at width and depth 1)."""

LAST = (0, 2, 4, 10, 15)
"""Of all blocks, those before the next one halves the scale, and the very last."""


class EfficientNetLite0(nn.Module):
    """Inverted residual blocks without squeeze-and-excitation, ReLU6 throughout (the Lite variant)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32)
        blocks, width = [], 32
        for kernel, stride, expansion, channels, count in STAGES:
            for place in range(count):
                blocks.append(Block(width, channels, kernel, stride if place == 0 else 1, expansion))
                width = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(width, 1280, 1, bias=False), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """float[B, 3, H, W] in -1..1 to features float[B, 1280] and ImageNet's logits float[B, 1000]."""
        x = F.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        features = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return features, self._fc(features)

    def layers(self, pixels: Tensor) -> list[Tensor]:
        """The last block of each scale: float[B, C, H / 2^i, W / 2^i], i from 1 to 5, C of 16, 24, 40, 112, 320."""
        x, found = F.relu6(self._bn0(self._conv_stem(pixels))), []
        for place, block in enumerate(self._blocks):
            x = block(x)
            if place in LAST:
                found.append(x)
        return found


class Block(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project; added to what came in where the shape stays."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and width == channels
        if self.expands:
            self._expand_conv, self._bn0 = nn.Conv2d(width, inner, 1, bias=False), _norm(inner)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv, self._bn2 = nn.Conv2d(inner, channels, 1, bias=False), _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, C, h, w] to float[B, C', h', w']."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
