"""The two kinds of layers of aMUSEd's U-ViT: convolutions that look at the text, and a transformer's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_amused.attention import CrossAttention, SelfAttention
from muse_studio.nn.layers import rms_norm

EPS = 1e-6
"""Of every norm."""


class Norm(nn.RMSNorm):
    """Root-mean-square norm with a gain."""

    eps: float

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] to the same."""
        return rms_norm(x, self.eps, self.weight)


class ResponseNorm(nn.Module):
    """Global response normalization (ConvNeXt V2, Woo et al., 2023): channels compete by their norm over the grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """float[B, h, w, width] to the same."""
        wide = x.float()
        norm = wide.square().sum((1, 2), keepdim=True).sqrt()
        share = norm / (norm.mean(-1, keepdim=True) + 1e-6)
        return torch.addcmul(self.bias.float(), wide, 1 + self.gain * share).to(x.dtype)


class ConvBlock(nn.Module):
    """A ConvNeXt block, scaled and shifted by the picture's vector, and two looks at the text.

    channels: of the grid. width: of the text and of the picture's vector.
    """

    entrances = ("remember",)
    memories = 5
    """Tensors that `remember` gives."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = Norm(channels)
        self.widen = nn.Linear(channels, 4 * channels, bias=False)
        self.response_norm = ResponseNorm(4 * channels)
        self.narrow = nn.Linear(4 * channels, channels, bias=False)
        self.modulate = nn.Linear(width, 2 * channels, bias=False)
        self.text_projection = nn.Linear(width, channels, bias=False)
        self.norm1, self.cross_attention1 = Norm(channels), CrossAttention(channels, heads, channels)
        self.norm2, self.cross_attention2 = Norm(channels), CrossAttention(channels, heads, channels)

    def remember(self, text: Tensor, vector: Tensor) -> tuple[Tensor, ...]:
        """float[B, T, width], float[B, width] to scale and shift float[B, 2, channels], and both looks' memories."""
        scale, shift = self.modulate(F.silu(vector)).chunk(2, -1)
        seen = self.text_projection(F.silu(text))
        modulation = torch.stack([1 + scale, shift], 1).to(self.norm.weight.dtype)
        return modulation, *self.cross_attention1.remember(seen), *self.cross_attention2.remember(seen)

    def forward(self, x: Tensor, mask: Tensor, modulation: Tensor, *memory: Tensor) -> Tensor:
        """float[B, h, w, channels] to the same."""
        y = self.norm(self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        x = x + self.narrow(self.response_norm(F.gelu(self.widen(y))))
        scale, shift = modulation[:, :, None, None].unbind(1)
        flat = torch.addcmul(shift, x, scale).flatten(1, 2)
        flat = flat + self.cross_attention1(self.norm1(flat), *memory[:2], mask)
        flat = flat + self.cross_attention2(self.norm2(flat), *memory[2:], mask)
        return flat.view_as(x)


class GatedMLP(nn.Module):
    """value * gelu(gate), through a wider layer (GLU variants, Shazeer, 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, 2 * hidden, bias=False)
        self.narrow = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] to the same."""
        if isinstance(self.widen, nn.Linear):
            # Two products for one: of 2,816 columns each, a CPU's bfloat16 is a third faster than of 5,632 at once.
            value, gate = (F.linear(x, half) for half in self.widen.weight.chunk(2))
        else:  # it is packed, or an adapter that is being trained stands around it
            value, gate = self.widen(x).chunk(2, -1)
        return self.narrow(value * F.gelu(gate))


class Block(nn.Module):
    """Self-attention, a look at the text, MLP; what each is given is normalised, then scaled and shifted.

    Scales and shifts are the picture's: a linear map of its vector (adaptive norm, Peebles and Xie, 2023).
    """

    entrances = ("remember",)
    memories = 3
    """Tensors that `remember` gives."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.ones(3 * width))
        self.modulate = nn.Linear(width, 6 * width, bias=False)
        self.self_attention = SelfAttention(width, heads)
        self.cross_attention = CrossAttention(width, heads, width)
        self.mlp = GatedMLP(width, hidden)

    def remember(self, text: Tensor, vector: Tensor) -> tuple[Tensor, ...]:
        """float[B, T, width], float[B, width] to scales and shifts float[B, 3, 2, width], and the text's memory."""
        scale, shift = self.modulate(F.silu(vector)).unflatten(-1, (3, 2, -1)).unbind(2)
        return torch.stack([self.gains.view(3, -1) * (1 + scale), shift], 2), *self.cross_attention.remember(text)

    def forward(self, x: Tensor, mask: Tensor, modulation: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """float[B, N, width] to the same."""
        return self.after(x, self.self_attention.attend(*self.divide(x, modulation)), mask, modulation, key, value)

    def divide(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, ...]:
        """float[B, N, width] to the queries, keys and values of its self-attention float[B, heads, N, d]."""
        scale, shift = modulation[:, 0, :, None].unbind(1)
        return self.self_attention.divide(torch.addcmul(shift, rms_norm(x, EPS), scale))

    def after(self, x: Tensor, seen: Tensor, mask: Tensor, modulation: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """float[B, N, width], and what its places saw of each other, to what the block makes of them."""
        (scale2, shift2), (scale3, shift3) = (each.unbind(1) for each in modulation[:, 1:, :, None].unbind(1))
        x = x + seen
        x = x + self.cross_attention(torch.addcmul(shift2, rms_norm(x, EPS), scale2), key, value, mask)
        return x + self.mlp(torch.addcmul(shift3, F.layer_norm(x, x.shape[-1:], eps=EPS), scale3))
