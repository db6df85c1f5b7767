"""The convolutional encoder and decoder of VQGAN (Esser et al., 2021), in Muse's layout and in published ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from muse_vqgan.layers import MUSE, Layout, Up, norm


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
        now = channels * multipliers[-1]
        layers: list[nn.Module] = [nn.Conv2d(width, now, 3, padding=1), *layout.middle(now)]
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for block in range(blocks):
                added = layout.block(now, channels * multiplier, level == len(multipliers) - 1)
                self.block_of |= dict.fromkeys(range(len(layers), len(layers) + len(added)), block)
                layers += added
                now = channels * multiplier
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

        Each level's further blocks come last and add nothing yet. None where `smaller` are no such decoder's tensors:
        it has other channels, say, or more blocks.
        """
        own = self.state_dict()
        for blocks in range(self.blocks, -1, -1):
            kept = [layer for layer in range(len(self.layers)) if self.block_of.get(layer, -1) < blocks]
            places = {
                f"layers.{layer}.{name}": f"layers.{its}.{name}"
                for its, layer in enumerate(kept)
                for name in self.layers[layer].state_dict()
            }
            if {its: own[name].shape for name, its in places.items()} == {n: t.shape for n, t in smaller.items()}:
                start = {n: torch.zeros_like(t) if ".conv2." in n or ".out." in n else t for n, t in own.items()}
                return start | {name: smaller[its] for name, its in places.items()}
        return None


def to_range(images: Tensor) -> Tensor:
    """0..1 to -1..1."""
    return images * 2 - 1


def from_range(images: Tensor) -> Tensor:
    """-1..1 to 0..1."""
    return (images + 1) / 2
