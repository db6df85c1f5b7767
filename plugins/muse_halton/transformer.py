"""Halton-MaskGIT's transformer: every layer is shifted, scaled and weighed by the class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Conditioning, TextEmbedding
from muse_studio.nn.classes import class_weights
from muse_studio.nn.layers import check_grid, check_sizes, layer_list, merge_heads, refuse_low, run_layer, split_heads
from muse_studio.nn.lora import Adapter, load_or_start
from muse_studio.sampling.feature_cache import gather_places

EPS = 1e-5
"""Of every norm."""


class Norm(nn.RMSNorm):
    """Root-mean-square norm with a gain, by torch's kernel: `muse_studio.nn.layers` rounds otherwise on a CPU."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] to the same; the gain follows the input's type, as the fused kernel asks for."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """Every place looks at every place; queries and keys are normalised over all heads at once, without a gain."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.inner = heads, heads * (width // heads)
        self.project = nn.Linear(width, 3 * self.inner, bias=False)
        self.out = nn.Linear(self.inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[B, N, width] to the same."""
        query, key, value = self.project(x).chunk(3, -1)
        query, key = (F.rms_norm(each, (self.inner,), eps=EPS).to(value.dtype) for each in (query, key))
        query, key, value = (split_heads(each, self.heads) for each in (query, key, value))
        return self.out(merge_heads(F.scaled_dot_product_attention(query, key, value)))


class SwiGLU(nn.Module):
    """A gated MLP without biases (Shazeer, 2020)."""

    def __init__(self, width: int, mlp: int) -> None:
        super().__init__()
        self.gate, self.widen = nn.Linear(width, mlp, bias=False), nn.Linear(width, mlp, bias=False)
        self.narrow = nn.Linear(mlp, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """float[..., width] to the same."""
        return self.narrow(F.silu(self.gate(x)) * self.widen(x))


class Block(nn.Module):
    """Self-attention, then an MLP; what the class makes of a layer is six vectors (DiT, Peebles & Xie, 2023)."""

    entrances = ("modulation",)

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.modulate = nn.Linear(width, 6 * width)
        self.norm1, self.self_attention = Norm(width), SelfAttention(width, heads)
        self.norm2, self.mlp = Norm(width), SwiGLU(width, mlp)

    def modulation(self, condition: Tensor) -> Tensor:
        """float[B, width] of the class to its six vectors, float[B, 6, width]: shift, scale, weight of each half."""
        return self.modulate(condition).unflatten(-1, (6, -1))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """float[B, N, width] to the same; modulation float[B, 6, width] as the method of that name gives it."""
        shift1, scale1, weight1, shift2, scale2, weight2 = modulation[:, :, None].unbind(1)
        x = x + weight1 * self.self_attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + weight2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class HaltonMaskGIT(nn.Module):
    """The class-conditional transformer of Besnier et al. (ICLR 2025, 2503.17076), as its published code computes it.

    The text is a class, as the text encoder `class` gives it: states float[B, T, classes] (`muse_studio.nn.classes`).
    It was trained with a tenth of the classes left out, so it may be guided: a text whose mask is all False has the
    table of classes' last row. The head's rows are those of the table of tokens; the original draws from the row of
    MASK too. What the class makes of the layers is computed once per picture, by `condition`.

    The default is H-MaskGIT-L at 384 pixels. Its smaller ones have width 384 and 6 layers, 512 and 12, 768 and 12.

    codebook_size: K. classes: how many, which is the text's width. grid: [h, w], which it is made for alone.
    width, layers, heads: a head has width // heads numbers, and what is left over of 512 by 6 is lost.
    mlp: of the gate; theirs is two thirds of 4 x width, rounded up to a multiple of 256.
    registers: further places behind the grid, whose outcome is dropped.
    checkpointing: computes each layer again in the backward pass, for less memory at the price of time.
    weights: an address of safetensors to start from. adapters: what is added to them, each `{weights, scale}`.
    """

    entrances = ("condition",)
    former_names = "muse_halton.former:FORMER"
    low_grid = None
    placewise = True

    def __init__(
        self,
        codebook_size: int = 16384,
        classes: int = 1000,
        grid: list[int] | None = None,
        width: int = 1024,
        layers: int = 24,
        heads: int = 16,
        mlp: int = 2816,
        registers: int = 1,
        checkpointing: bool = False,
        weights: str | None = None,
        adapters: list[Adapter] | None = None,
    ) -> None:
        super().__init__()
        grid = grid or [24, 24]
        sizes = {"codebook_size": codebook_size, "classes": classes, "width": width, "layers": layers, "heads": heads}
        check_sizes(sizes | {"mlp": mlp}, grid)
        if heads > width:
            raise ValueError(f"heads is {heads}, more than width {width}; give fewer")
        if registers < 0:
            raise ValueError(f"registers is {registers}; give 0 or more")
        self.codebook_size, self.text_width, self.checkpointing = codebook_size, classes, checkpointing
        self.grid = tuple(grid)
        self.embed = nn.Embedding(codebook_size + 1, width)  # the last row stands for MASK
        self.classes = nn.Embedding(classes + 1, width)  # the last row stands for no class
        self.positions = nn.Parameter(torch.empty(grid[0] * grid[1], width))
        self.registers = nn.Parameter(torch.empty(registers, width)) if registers else None
        self.blocks = layer_list(Block(width, heads, mlp) for _ in range(layers))
        self.norm, self.shift = Norm(width), nn.Parameter(torch.zeros(width))
        self.modulate = nn.Linear(width, 2 * width)
        self.bias = nn.Parameter(torch.zeros(codebook_size + 1))
        load_or_start(self, weights, adapters, self.start)

    def start(self) -> None:
        """Random weights as theirs: layers begin as nothing, their modulation being zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, Block):
                nn.init.zeros_(module.modulate.weight)
        for table in (self.embed.weight, self.classes.weight, self.positions, self.registers):
            if table is not None:
                nn.init.normal_(table, std=0.02)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """Of each layer six vectors, float[B, layers, 6, width], and two of the head, float[B, 2, width].

        `low` is not for a base model.
        """
        refuse_low(low, "halton-maskgit")
        asked, some = class_weights(text)
        rows, nothing = self.classes.weight.split([self.text_width, 1])
        condition = F.silu(torch.where(some, asked.to(rows.dtype) @ rows, nothing))
        layers = torch.stack([block.modulation(condition) for block in self.blocks], 1)
        return layers, self.modulate(condition).unflatten(-1, (2, -1))

    def forward(self, tokens: Tensor, conditioning: Conditioning, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, K].

        places: int64[B, n] of each grid in reading order, to have their logits alone, float[B, n, K].
        """
        check_grid(tokens, self.grid)
        layers, head = conditioning
        x = self.embed(torch.where(tokens < 0, self.codebook_size, tokens)).flatten(1, 2) + self.positions
        count = x.shape[1]
        if self.registers is not None:
            x = torch.cat([x, self.registers.expand(len(x), -1, -1)], 1)
        for block, modulation in zip(self.blocks, layers.unbind(1), strict=True):
            x = run_layer(block, x, modulation, checkpointing=self.checkpointing)
        shift, scale = head[:, :, None].unbind(1)
        x = (self.norm(x[:, :count]) + self.shift) * (1 + scale) + shift
        x = x if places is None else gather_places(x, places)
        logits = F.linear(x, self.embed.weight[: self.codebook_size], self.bias[: self.codebook_size])
        return logits.unflatten(1, self.grid) if places is None else logits
