"""Inception v3 as FID has it: TensorFlow's network of 2015, by the names of its weights in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299
LAST = ("Mixed_5d", "Mixed_6e", "Mixed_7c")
"""The mixed blocks that are the last ones of their scale."""


class Inception(nn.Module):
    """The network of Szegedy et al. 2015 without its auxiliary head, with 1008 classes.

    It is TensorFlow's in what FID depends on: average pools leave the padding out of the mean, and the last block
    pools by the maximum.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2, 0)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, 1, 0)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, 1, 0)
        self.Mixed_5b = Mixed(192, _block_a(32))
        self.Mixed_5c = Mixed(256, _block_a(64))
        self.Mixed_5d = Mixed(288, _block_a(64))
        self.Mixed_6a = Mixed(288, BLOCK_B, "reduce")
        self.Mixed_6b = Mixed(768, _block_c(128))
        self.Mixed_6c = Mixed(768, _block_c(160))
        self.Mixed_6d = Mixed(768, _block_c(160))
        self.Mixed_6e = Mixed(768, _block_c(192))
        self.Mixed_7a = Mixed(768, BLOCK_D, "reduce")
        self.Mixed_7b = Mixed(1280, BLOCK_E)
        self.Mixed_7c = Mixed(2048, BLOCK_E, "max")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """float[B, 3, 299, 299] in -1..1 to features float[B, 2048] and logits float[B, 1008].

        The logits are without the last layer's bias, as the Inception score has had them since its first code.
        """
        features = self.layers(pixels)[-1].mean((2, 3))
        return features, F.linear(features, self.fc.weight)

    def layers(self, pixels: Tensor) -> list[Tensor]:
        """The last one of each scale, from 147 places a side down to 8: float[B, C, h, w]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pixels)))
        found = [x]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        found.append(x)
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
                if name in LAST:
                    found.append(x)
        return found


class Conv(nn.Module):
    """A convolution without bias, batch norm, ReLU; padded to keep the size unless `padding` says otherwise."""

    def __init__(self, width: int, channels: int, kernel: Any, stride: int = 1, padding: int | None = None) -> None:
        super().__init__()
        sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        pad = tuple(side // 2 for side in sides) if padding is None else padding
        self.conv = nn.Conv2d(width, channels, sides, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, C, h, w] to float[B, C', h', w']."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches of convolutions side by side, their channels joined; the last branch pools first.

    branches: each a list of (name, channels, kernel), with a stride where it is 2 and then unpadded; a list in place
    of a convolution, at a branch's end, is a fork whose ends are joined. pool: "average" or "max" over 3 x 3 places
    before the last branch; "reduce" is a maximum of stride 2, and then the pool is a branch of its own.
    """

    def __init__(self, width: int, branches: list[list[Any]], pool: str = "average") -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        for branch in branches:
            wide = width
            for step in branch:
                for name, channels, kernel, *stride in step if isinstance(step, list) else [step]:
                    self.add_module(name, Conv(wide, channels, kernel, *((stride[0], 0) if stride else ())))
                wide = channels

    def forward(self, x: Tensor) -> Tensor:
        """float[B, C, h, w] to float[B, C', h', w']."""
        if self.pool == "reduce":
            return torch.cat([*(self._run(branch, x) for branch in self.branches), F.max_pool2d(x, 3, 2)], 1)
        pooled = F.max_pool2d(x, 3, 1, 1) if self.pool == "max" else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        *others, last = self.branches
        return torch.cat([*(self._run(branch, x) for branch in others), self._run(last, pooled)], 1)

    def _run(self, branch: list[Any], x: Tensor) -> Tensor:
        for step in branch:
            if isinstance(step, list):
                x = torch.cat([self.get_submodule(name)(x) for name, *_ in step], 1)
            else:
                x = self.get_submodule(step[0])(x)
        return x


def _block_a(pooled: int) -> list[list[Any]]:
    return [
        [("branch1x1", 64, 1)],
        [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
        [("branch_pool", pooled, 1)],
    ]


def _block_c(inner: int) -> list[list[Any]]:
    row, column = (1, 7), (7, 1)
    return [
        [("branch1x1", 192, 1)],
        [("branch7x7_1", inner, 1), ("branch7x7_2", inner, row), ("branch7x7_3", 192, column)],
        [
            ("branch7x7dbl_1", inner, 1),
            ("branch7x7dbl_2", inner, column),
            ("branch7x7dbl_3", inner, row),
            ("branch7x7dbl_4", inner, column),
            ("branch7x7dbl_5", 192, row),
        ],
        [("branch_pool", 192, 1)],
    ]


BLOCK_B: list[list[Any]] = [
    [("branch3x3", 384, 3, 2)],
    [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)],
]
BLOCK_D: list[list[Any]] = [
    [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
    [
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3, 2),
    ],
]
BLOCK_E: list[list[Any]] = [
    [("branch1x1", 320, 1)],
    [("branch3x3_1", 384, 1), [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))]],
    [
        ("branch3x3dbl_1", 448, 1),
        ("branch3x3dbl_2", 384, 3),
        [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))],
    ],
    [("branch_pool", 192, 1)],
]


def resize(pixels: Tensor) -> Tensor:
    """float[B, 3, H, W] to float[B, 3, 299, 299] as TensorFlow 1 did it for FID: bilinear, top left corners aligned."""
    rows, columns = (_interpolation(side).to(pixels) for side in pixels.shape[2:])
    return rows @ pixels @ columns.T


def _interpolation(side: int) -> Tensor:
    """float64[299, side]: the weights of each source pixel, a row a target pixel."""
    place = torch.arange(SIDE, dtype=torch.float64) * (side / SIDE)
    low = place.floor().long()
    share = place - low
    weights = torch.zeros(SIDE, side, dtype=torch.float64)
    weights.scatter_add_(1, low[:, None], (1 - share)[:, None])
    weights.scatter_add_(1, (low + 1).clamp(max=side - 1)[:, None], share[:, None])
    return weights
