"""The transformer colour-heads: a small masked model that knows what a colour is made of."""

from __future__ import annotations

import torch
from muse_studio.contracts import MASK, Conditioning, TextEmbedding
from muse_studio.runtime.weights import load
from torch import Tensor, nn

from muse_pixel_art.palette import COLOURS, LEVELS, split


class ColourHeads(nn.Module):
    """A transformer over art pixels, whose head says red, green and blue apart.

    A colour's logit is the sum of its channels': 3 x 4 numbers a place instead of 64, so that what is learned of dark
    red helps with light red. The price is that the channels of one place are drawn independently of each other.

    The mean of the text's states is added to every place, projected without a bias: no prompt adds nothing.

    grid: [h, w], the art pixels of a picture. text_width: D of the text encoder. width: of the layers; heads must
    divide it. weights: an address of safetensors to start from.
    """

    codebook_size = COLOURS
    low_grid = None  # a first stage: it refines no other stage's tokens

    def __init__(
        self,
        grid: list[int] | None = None,
        text_width: int = 384,
        width: int = 96,
        layers: int = 2,
        heads: int = 4,
        weights: str | None = None,
    ) -> None:
        grid = grid or [12, 12]
        if len(grid) != 2 or min(*grid, text_width, width, layers, heads) < 1:
            raise ValueError(f"grid is {grid}; give two sides, and make every size 1 or more")
        if width % heads:
            raise ValueError(f"heads is {heads}, which does not divide the width, {width}")
        super().__init__()
        self.text_width, self.grid = text_width, (grid[0], grid[1])
        self.embed = nn.ModuleList(nn.Embedding(LEVELS + 1, width) for _ in range(3))  # the last row is MASK's
        self.positions = nn.Parameter(torch.randn(*self.grid, width))  # as large as what stands there
        self.text = nn.Linear(text_width, width, bias=False)
        nn.init.normal_(self.text.weight, std=0.2)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * LEVELS))
        if weights is not None:
            load(self, weights)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """The prompt's vector float[B, width], once a picture; ValueError where low-resolution tokens are given."""
        if low is not None:
            raise ValueError("colour-heads takes no low-resolution tokens; make it the first stage")
        counts = text.mask.unsqueeze(-1)
        total = torch.where(counts, text.states, 0).sum(1).to(self.positions.dtype)
        return (self.text(total / counts.sum(1).clamp(min=1)),)

    def forward(self, tokens: Tensor, conditioning: Conditioning) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, 64]."""
        levels = torch.where((tokens == MASK)[..., None], LEVELS, split(tokens.clamp(min=0)))
        x = self.positions + conditioning[0][:, None, None]
        for embed, level in zip(self.embed, levels.unbind(-1), strict=True):
            x = x + embed(level)
        return joined(self.head(self.layers(x.flatten(1, 2)))).unflatten(1, self.grid)


def joined(channels: Tensor) -> Tensor:
    """Logits of each channel's levels, float[..., 3 * 4], to those of the colours that they make, float[..., 64]."""
    red, green, blue = channels.chunk(3, -1)
    return (red[..., :, None, None] + green[..., None, :, None] + blue[..., None, None, :]).flatten(-3)
