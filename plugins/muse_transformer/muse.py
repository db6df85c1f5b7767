"""Muse's base model: a masked transformer over the token grid, looking at the text by cross-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from muse_studio import weights as files
from muse_studio.contracts import Conditioning, TextEmbedding
from muse_transformer.attention import CrossAttention, SelfAttention


class Block(nn.Module):
    """Self-attention, cross-attention, MLP, each normalised before and added (Muse, section 2.3)."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1, self.look = nn.LayerNorm(width), SelfAttention(width, heads)
        self.norm2, self.read = nn.LayerNorm(width), CrossAttention(width, heads)
        self.norm3 = nn.LayerNorm(width)
        self.think = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """float[B, N, width] with the text's keys and values float[B, heads, T, d] and mask bool[B, T]."""
        x = x + self.look(self.norm1(x))
        x = x + self.read(self.norm2(x), key, value, mask)
        return x + self.think(self.norm3(x))


class MuseTransformer(nn.Module):
    """The base masked transformer (Muse, section 2.3): learned 2-D positions, an MLP head over the codebook.

    Muse's 3B has layers 48, width 2048, mlp 8192. The paper leaves open the heads and the norm: here layers are
    normalised before they act, and queries and keys per head, which trains without spikes.

    codebook_size: K, the tokenizer's. grid: [h, w], the tokens of a picture. text_width: D of the text encoder.
    mlp: width of the hidden layer, 4 x width by default.
    checkpointing: computes each layer again in the backward pass, for less memory at the price of time.
    weights: an address of safetensors to start from.
    """

    def __init__(
        self,
        codebook_size: int = 8192,
        grid: list[int] | None = None,
        text_width: int = 4096,
        width: int = 2048,
        layers: int = 48,
        heads: int = 16,
        mlp: int | None = None,
        checkpointing: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.grid = tuple(grid or [16, 16])
        mlp = 4 * width if mlp is None else mlp
        if len(self.grid) != 2 or min(codebook_size, text_width, width, layers, heads, mlp, *self.grid) < 1:
            raise ValueError(
                "codebook_size, text_width, width, layers, heads, mlp and the two of grid must be 1 or more"
            )
        if width % heads:
            raise ValueError(f"heads is {heads}, which width {width} does not divide into; choose another of them")
        self.codebook_size, self.text_width, self.checkpointing = codebook_size, text_width, checkpointing
        self.embed = nn.Embedding(codebook_size + 1, width)  # the last row stands for MASK
        self.positions = nn.Parameter(torch.empty(*self.grid, width))
        self.read_text = nn.Sequential(nn.Linear(text_width, width), nn.LayerNorm(width))
        self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, codebook_size)
        )
        self._start(layers)
        if weights is not None:
            files.load(self, weights)

    def _start(self, layers: int) -> None:
        """Normal weights of 0.02 (MaskGIT); what writes into the residual stream is scaled down by depth (GPT-2)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.positions, std=0.02)
        for block in self.blocks:
            for writer in (block.look.out, block.read.out, block.think[2]):
                nn.init.normal_(writer.weight, std=0.02 / (3 * layers) ** 0.5)

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """The text's mask, then every layer's keys and values float[B, heads, T, d]; `low` is not for a base model."""
        if low is not None:
            raise ValueError(
                "the transformer 'muse' is a base model and takes no low-resolution tokens; make it the first stage"
            )
        memory = self.read_text(text.states.to(self.positions.dtype))
        return (text.mask, *(tensor for block in self.blocks for tensor in block.read.remember(memory)))

    def forward(self, tokens: Tensor, conditioning: Conditioning) -> Tensor:
        """int64[B, h, w], MASK where unknown, to logits float[B, h, w, K]."""
        if tuple(tokens.shape[1:]) != self.grid:
            raise ValueError(
                f"a grid of {tuple(tokens.shape[1:])} tokens was given, the transformer has grid {self.grid}"
            )
        mask, *memories = conditioning
        x = self.embed(torch.where(tokens < 0, self.codebook_size, tokens)) + self.positions
        x = x.flatten(1, 2)
        for block, key, value in zip(self.blocks, memories[::2], memories[1::2], strict=True):
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, key, value, mask, use_reentrant=False)
            else:
                x = block(x, key, value, mask)
        return self.head(self.norm(x)).unflatten(1, self.grid)
