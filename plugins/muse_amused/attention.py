"""Attention as aMUSEd has it: no bias, no norm of queries and keys."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.nn.layers import merge_heads, split_heads


class SelfAttention(nn.Module):
    """The grid's places look at each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, N, width] to float[B, N, width]."""
        return self.attend(*self.divide(x))

    def divide(self, x: Tensor) -> tuple[Tensor, ...]:
        """float[B, N, width] to queries, keys and values float[B, heads, N, d]."""
        return tuple(split_heads(part, self.heads) for part in self.project(x).chunk(3, -1))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Places with queries float[B, heads, n, d] look at float[B, heads, N, d]: float[B, n, width]."""
        return self.out(merge_heads(F.scaled_dot_product_attention(query, key, value)))


class CrossAttention(nn.Module):
    """The grid's places look at the text, whose keys and values are computed once per picture."""

    def __init__(self, width: int, heads: int, text_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.memory = nn.Linear(text_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def remember(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """float[B, T, text_width] to keys and values float[B, heads, T, d]."""
        key, value = (split_heads(part, self.heads) for part in self.memory(text).chunk(2, -1))
        return key, value

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """float[B, N, width] to float[B, N, width]; mask bool[B, T], some of each row True."""
        query = split_heads(self.query(x), self.heads)
        return self.out(merge_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])))
