"""The layer of MaskGIT's transformer: BERT's, each part normalised after it is added."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.nn.layers import merge_heads, split_heads

EPS = 1e-12
"""Of every norm, as BERT has it."""


class Norm(nn.LayerNorm):
    """Layer norm with a gain and a bias."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)


class GELU(nn.GELU):
    """By its approximation with tanh, which JAX means by gelu: MaskGIT's weights were trained with it.

    Its conversion to torch computes the exact one, which differs by up to 5e-4.
    """

    def __init__(self) -> None:
        super().__init__("tanh")


class SelfAttention(nn.Module):
    """Every place of the sequence looks at every place."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, N, width] to the same."""
        query, key, value = (split_heads(part, self.heads) for part in self.project(x).chunk(3, -1))
        return self.out(merge_heads(F.scaled_dot_product_attention(query, key, value)))


class Block(nn.Module):
    """Self-attention, then an MLP; each is added to what it was given, and the sum is normalised."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.self_attention, self.norm1 = SelfAttention(width, heads), Norm(width)
        self.mlp, self.norm2 = nn.Sequential(nn.Linear(width, mlp), GELU(), nn.Linear(mlp, width)), Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, N, width] to the same."""
        x = self.norm1(x + self.self_attention(x))
        return self.norm2(x + self.mlp(x))
