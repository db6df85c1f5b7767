"""Multi-head attention in the two forms that Muse needs: over the grid itself, and from the grid to a memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention. float[B, heads, N, d] to float[B, heads, N, d]; mask: bool[B, 1, 1, M].

    Training on a CPU writes it out: there the fused kernel's backward takes half of a whole step at 64 to 256 tokens.
    """
    if query.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).to(value.dtype) @ value


def split(x: Tensor, heads: int) -> Tensor:
    """float[B, N, heads * d] to float[B, heads, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """float[B, heads, N, d] to float[B, N, heads * d]."""
    return x.transpose(1, 2).flatten(2)


class HeadNorm(nn.RMSNorm):
    """Root-mean-square norm of each head's queries or keys: attention's logits stay small (Dehghani et al., 2023).

    The gain follows the input's type: with both alike, the fused kernel serves under autocast too.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, heads, N, width] to the same."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """The grid's tokens look at each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.norm_query, self.norm_key = HeadNorm(width // heads), HeadNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, N, width] to float[B, N, width]."""
        query, key, value = (split(part, self.heads) for part in self.project(x).chunk(3, -1))
        return self.out(merge(attend(self.norm_query(query), self.norm_key(key), value)))


class CrossAttention(nn.Module):
    """The grid's tokens look at a memory, whose keys and values are computed once per picture."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.memory = nn.Linear(width, 2 * width, bias=False)
        self.norm_query, self.norm_key = HeadNorm(width // heads), HeadNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """float[B, M, width] to keys and values float[B, heads, M, d]."""
        key, value = (split(part, self.heads) for part in self.memory(memory).chunk(2, -1))
        return self.norm_key(key), value

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """float[B, N, width] to float[B, N, width]; mask bool[B, M]. A row with nothing to look at gets exact zeros."""
        some = mask.any(-1)
        # A row of the mask without any True has no softmax: it looks at everything, and what it sees is dropped below.
        looked = (mask | ~some.unsqueeze(-1)).unsqueeze(1).unsqueeze(1)
        seen = attend(self.norm_query(split(self.query(x), self.heads)), key, value, looked)
        return self.out(merge(seen)) * some.view(-1, 1, 1)
