"""Multi-head attention in the forms that Muse needs: over the grid, along its two axes, from the grid to a memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.nn.layers import ExactLinear, merge_heads, rms_norm, split_heads
from muse_transformer.options import Rotation


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


class HeadNorm(nn.RMSNorm):
    """Root-mean-square norm of each head's queries or keys: attention's logits stay small (Dehghani et al., 2023)."""

    eps: float

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, heads, N, width] to the same."""
        return rms_norm(x, self.eps, self.weight)


class SelfAttention(nn.Module):
    """The grid's tokens look at each other. rotation: turns queries and keys by their places; None leaves them."""

    def __init__(self, width: int, heads: int, rotation: Rotation | None = None) -> None:
        super().__init__()
        self.heads, self.rotation = heads, rotation
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.norm_query, self.norm_key = HeadNorm(width // heads), HeadNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, N, width] to float[B, N, width]."""
        return self.out(merge_heads(self.mix(*self.divide(x))))

    def divide(self, x: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """float[B, N, width] to queries, keys and values float[B, heads, N, d]; places: int64[B, N], where not all."""
        query, key, value = (split_heads(part, self.heads) for part in self.project(x).chunk(3, -1))
        query, key = self.norm_query(query), self.norm_key(key)
        if self.rotation is not None:
            query, key = self.rotation(query, places), self.rotation(key, places)
        return query, key, value

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """float[B, heads, N, d] three times to float[B, heads, N, d]: every place looks at every place."""
        return attend(query, key, value)

    def mix_at(self, query: Tensor, key: Tensor, value: Tensor, places: Tensor) -> Tensor:
        """The places int64[B, n], whose queries are float[B, heads, n, d], look at all: float[B, heads, n, d]."""
        return attend(query, key, value)


class MultiAxisAttention(SelfAttention):
    """The grid's tokens look within their block, and across blocks at their own offset (HiT, Zhao et al., 2021).

    The grid is cut into blocks of block x block places. Half of the heads look along the one axis, half along the
    other, and one projection joins them: two layers reach any place, at a cost that grows with N^1.5 where N is a
    square grid's places and a block holds their square root. Muse's super-resolution trunk has it (section 2.4).
    """

    def __init__(
        self, width: int, heads: int, grid: tuple[int, int], block: int, rotation: Rotation | None = None
    ) -> None:
        super().__init__(width, heads, rotation)
        self.grid, self.block = grid, block

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """float[B, heads, N, d] three times to float[B, heads, N, d], places in the grid's rows."""
        within, across = zip(*(self._blocks(x).chunk(2, 1) for x in (query, key, value)), strict=True)
        inside = _attend_axis(*within)
        outside = _attend_axis(*(x.transpose(2, 3) for x in across)).transpose(2, 3)
        return self._grid(torch.cat([inside, outside], 1))

    def mix_at(self, query: Tensor, key: Tensor, value: Tensor, places: Tensor) -> Tensor:
        """As of any self-attention. All groups are computed: their looking costs little beside a layer's matrices."""
        index = places[:, None, :, None].expand_as(query)
        return self.mix(torch.zeros_like(key).scatter(2, index, query), key, value).gather(2, index)

    def _blocks(self, x: Tensor) -> Tensor:
        """float[B, heads, N, d] to float[B, heads, blocks, places of a block, d]."""
        (h, w), b = self.grid, self.block
        x = x.unflatten(2, (h // b, b, w // b, b)).transpose(3, 4)
        return x.flatten(4, 5).flatten(2, 3)

    def _grid(self, x: Tensor) -> Tensor:
        """What `_blocks` made, undone."""
        (h, w), b = self.grid, self.block
        x = x.unflatten(3, (b, b)).unflatten(2, (h // b, w // b)).transpose(3, 4)
        return x.flatten(2, 5)


def _attend_axis(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """float[B, heads, groups, n, d]: each group by itself; the groups join the batch, as the fused kernels want it."""
    count, groups = query.shape[0], query.shape[2]
    folded = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    return attend(*folded).unflatten(0, (count, groups)).transpose(1, 2)


class CrossAttention(nn.Module):
    """The grid's tokens look at a memory, whose keys and values are computed once per picture."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.memory = ExactLinear(width, 2 * width, bias=False)
        self.norm_query, self.norm_key = HeadNorm(width // heads), HeadNorm(width // heads)
        self.out = nn.Linear(width, width, bias=False)

    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """float[B, M, width] to keys and values float[B, heads, M, d]."""
        key, value = (split_heads(part, self.heads) for part in self.memory(memory).chunk(2, -1))
        return self.norm_key(key), value

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """float[B, N, width] to float[B, N, width]; mask bool[B, M]. A row with nothing to look at gets exact zeros."""
        some = mask.any(-1)
        # A row of the mask without any True has no softmax: it looks at everything, and what it sees is dropped below.
        looked = (mask | ~some.unsqueeze(-1)).unsqueeze(1).unsqueeze(1)
        seen = attend(self.norm_query(split_heads(self.query(x), self.heads)), key, value, looked)
        return self.out(merge_heads(seen)) * some.view(-1, 1, 1)
