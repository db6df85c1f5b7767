"""MUSE-Pytorch's U-ViT: text or a class stands in the same row as the grid, and layers are bridged by long skips."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muse_studio.contracts import Conditioning, TextEmbedding
from muse_studio.nn.classes import class_weights
from muse_studio.nn.layers import (
    Head,
    check_grid,
    check_heads,
    check_sizes,
    merge_heads,
    refuse_low,
    run_layer,
    split_heads,
    tied_logits,
)
from muse_studio.nn.lora import Adapter, load_or_start
from muse_studio.sampling.feature_cache import gather_places


class Block(nn.Module):
    """Self-attention and MLP, each normalised before and added; with `skip`, an earlier block's outcome joins first."""

    def __init__(self, width: int, heads: int, mlp: int, skip: bool) -> None:
        super().__init__()
        self.heads = heads
        self.join = nn.Linear(2 * width, width) if skip else None
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width))

    def forward(self, x: Tensor, counts: Tensor | None, earlier: Tensor | None = None) -> Tensor:
        """float[B, N, width] to the same; counts bool[B, 1, 1, N] says which places are looked at, None for all."""
        if self.join is not None and earlier is not None:
            x = self.join(torch.cat([x, earlier], -1))
        query, key, value = (split_heads(part, self.heads) for part in self.project(self.norm1(x)).chunk(3, -1))
        x = x + self.out(merge_heads(F.scaled_dot_product_attention(query, key, value, attn_mask=counts)))
        return x + self.mlp(self.norm2(x))


class Trunk(nn.Module):
    """What both have in common: all but what stands in front of the grid, which `condition` of a subclass makes.

    fronts: rows of the table behind those of codes and MASK. front: positions before the grid's.
    """

    entrances = ("condition",)
    former_names = "muse_uvit.former:FORMER"
    low_grid = None
    placewise = True

    def __init__(
        self,
        codebook_size: int,
        text_width: int,
        grid: list[int],
        width: int,
        layers: int,
        heads: int,
        mlp: int,
        checkpointing: bool,
        fronts: int = 0,
        front: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"codebook_size": codebook_size, "width": width, "layers": layers, "heads": heads, "mlp": mlp}
        check_sizes(sizes, grid)
        check_heads(sizes)
        if layers % 2 == 0:
            raise ValueError(f"layers is {layers}; give an odd number, one in the middle and as many before as behind")
        self.codebook_size, self.text_width, self.checkpointing = codebook_size, text_width, checkpointing
        self.grid, half = tuple(grid), layers // 2
        self.embed = nn.Embedding(codebook_size + 1 + fronts, width)  # row K stands for MASK
        self.positions = nn.Parameter(torch.empty(front + grid[0] * grid[1], width))
        self.norm_embed = nn.LayerNorm(width, eps=1e-6)
        self.down = nn.ModuleList(Block(width, heads, mlp, skip=False) for _ in range(half))
        self.middle = Block(width, heads, mlp, skip=False)
        self.up = nn.ModuleList(Block(width, heads, mlp, skip=True) for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.head = Head(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(codebook_size + 1 + fronts))

    def start(self) -> None:
        """Random weights as theirs."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.embed.weight, self.positions):
            nn.init.normal_(table, std=0.02)

    def forward(self, tokens: Tensor, conditioning: Conditioning, places: Tensor | None = None) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, K].

        places: int64[B, n] of each grid in reading order, to have their logits alone, float[B, n, K].
        """
        check_grid(tokens, self.grid)
        front, *masks = conditioning
        known = self.embed(torch.where(tokens < 0, self.codebook_size, tokens)).flatten(1, 2)
        grid = self.norm_embed(known + self.positions[-known.shape[1] :])
        x = torch.cat([front.to(grid.dtype), grid], 1)
        counts = None
        for mask in masks:
            counts = torch.cat([mask, mask.new_ones(grid.shape[:2])], 1)[:, None, None]
        earlier = []
        for block in self.down:
            x = self._run(block, x, counts)
            earlier.append(x)
        x = self._run(self.middle, x, counts)
        for block in self.up:
            x = self._run(block, x, counts, earlier.pop())
        x = x[:, front.shape[1] :]
        x = self.head(self.norm(x if places is None else gather_places(x, places)))
        # The table learns by what it puts in alone: their head has it detached.
        logits = tied_logits(x, self.embed.weight[: self.codebook_size].detach(), self.bias[: self.codebook_size])
        return logits.unflatten(1, self.grid) if places is None else logits

    def _run(self, block: nn.Module, *given: Tensor | None) -> Tensor:
        return run_layer(block, *given, checkpointing=self.checkpointing)


class UViT(Trunk):
    """MUSE-Pytorch's text-to-image transformer (after the U-ViT of Bao et al., 2023): in-context, no cross-attention.

    The text's states stand in front of the grid, projected, in every layer. Its unprompted half is the empty sentence
    as its text encoder has it: a text whose mask is all False is replaced by the buffer `empty_states`, zeros until
    weights fill it. It was trained with a text encoder whose padding counts.

    The default is its CC3M model, of 503.6M parameters.

    codebook_size: K. grid: [h, w], which it is made for alone. text_width, text_positions: D and T of the text encoder.
    width, layers, heads, mlp: layers is odd, one in the middle and as many before as behind.
    checkpointing: computes each layer again in the backward pass, for less memory at the price of time.
    weights: an address of safetensors to start from. adapters: what is added to them, each `{weights, scale}`.
    """

    empty_states: Tensor

    def __init__(
        self,
        codebook_size: int = 1024,
        grid: list[int] | None = None,
        text_width: int = 1280,
        text_positions: int = 77,
        width: int = 1152,
        layers: int = 29,
        heads: int = 16,
        mlp: int = 4608,
        checkpointing: bool = False,
        weights: str | None = None,
        adapters: list[Adapter] | None = None,
    ) -> None:
        super().__init__(codebook_size, text_width, grid or [16, 16], width, layers, heads, mlp, checkpointing)
        check_sizes({"text_width": text_width, "text_positions": text_positions}, list(self.grid))
        self.text_projection = nn.Linear(text_width, width)
        self.register_buffer("empty_states", torch.zeros(text_positions, text_width))
        load_or_start(self, weights, adapters, self.start)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """What stands in front, float[B, T, width], and what counts, bool[B, T]; `low` is not for a base model."""
        refuse_low(low, "uvit")
        own = len(self.empty_states)
        more = max(0, own - text.states.shape[1])
        states, mask = F.pad(text.states, (0, 0, 0, more)), F.pad(text.mask, (0, more))
        some = mask.any(-1, keepdim=True)
        empty = F.pad(self.empty_states, (0, 0, 0, states.shape[1] - own))
        there = torch.arange(states.shape[1], device=mask.device) < own
        embedded = torch.where(some[..., None], states.to(empty.dtype), empty)
        return self.text_projection(embedded), torch.where(some, mask, there)


class ClassUViT(Trunk):
    """MUSE-Pytorch's class-conditional transformer: a class is a token in front of the grid, as MaskGIT's.

    The text is a class, as the text encoder `class` gives it: states float[B, T, classes] (`muse_studio.nn.classes`). A
    text whose mask is all False is the last row of the table, which stands for no class: it was trained with 15% of the
    classes left out, and is guided.

    The default is its ImageNet model, of 102M parameters. The settings are those of `uvit`.
    """

    def __init__(
        self,
        codebook_size: int = 1024,
        classes: int = 1000,
        grid: list[int] | None = None,
        width: int = 768,
        layers: int = 13,
        heads: int = 12,
        mlp: int = 3072,
        checkpointing: bool = False,
        weights: str | None = None,
        adapters: list[Adapter] | None = None,
    ) -> None:
        grid = grid or [16, 16]
        check_sizes({"classes": classes}, grid)
        super().__init__(codebook_size, classes, grid, width, layers, heads, mlp, checkpointing, classes + 1, 1)
        load_or_start(self, weights, adapters, self.start)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """The class's token, float[B, 1, width]; `low` is not for a base model."""
        refuse_low(low, "uvit-class")
        asked, some = class_weights(text)
        _, rows, nothing = self.embed.weight.split([self.codebook_size + 1, self.text_width, 1])
        embedded = torch.where(some, asked.to(rows.dtype) @ rows, nothing)
        return (self.norm_embed(embedded + self.positions[0])[:, None],)
