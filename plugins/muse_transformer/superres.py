"""Muse's super-resolution model: the tokens of a larger picture, given those of a smaller one and the text."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from muse_studio.contracts import Conditioning, TextEmbedding
from muse_studio.nn.layers import layer_list
from muse_studio.nn.lora import Adapter, load_or_start
from muse_transformer.attention import MultiAxisAttention, SelfAttention
from muse_transformer.options import Options, Rotation
from muse_transformer.trunk import Trunk, check_sizes, look_up


class LowBlock(nn.Module):
    """Self-attention and MLP, each normalised before and added: a layer over the finished smaller grid."""

    def __init__(self, width: int, heads: int, hidden: int, options: Options, rotation: Rotation | None) -> None:
        super().__init__()
        self.norm1, self.self_attention = nn.LayerNorm(width), SelfAttention(width, heads, rotation)
        self.norm2, self.mlp, self.drop = nn.LayerNorm(width), options.mlp(width, hidden), options.drop()

    def forward(self, x: Tensor) -> Tensor:
        """float[B, N, width] to the same."""
        x = x + self.drop(self.self_attention(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class SuperResolution(Trunk):
    """The super-resolution transformer (Muse, section 2.4, figure 4, table 6).

    Layers of self-attention and MLP read the finished smaller grid; what they make of it, concatenated with the
    projected text, is what the trunk's cross-attention looks at. The trunk's self-attention is multi-axis over the
    masked larger grid.

    Muse's has layers 32, width 1024, mlp 4096, grid [64, 64] over low_grid [16, 16]; its table 6 gives the
    low-resolution encoder 16 layers, its figure 4 draws 8. The default is the table's. It leaves open heads and block;
    8 cuts 64x64 into 64 blocks of 64 tokens, so that both axes are equally long. Positions are learned in both
    grids; they start as the same waves over the picture, so that what lies at one spot of it starts alike.

    codebook_size, grid: K and [h, w] of the larger tokens. low_codebook_size, low_grid: of the smaller ones.
    text_width: D of the text encoder. mlp: width of the hidden layers, 4 x width by default.
    heads: an even number, half of which look within blocks. block: tokens a side, which must divide both of grid's.
    checkpointing: computes each layer again in the backward pass, for less memory at the price of time.
    options: as of `muse`, but for registers; the smaller grid is never folded.
    weights: an address of safetensors to start from. adapters: what is added to them, each `{weights, scale}`.
    """

    name = "superres"

    def __init__(
        self,
        codebook_size: int = 8192,
        grid: list[int] | None = None,
        low_codebook_size: int = 8192,
        low_grid: list[int] | None = None,
        text_width: int = 4096,
        width: int = 1024,
        layers: int = 32,
        low_layers: int = 16,
        heads: int = 16,
        mlp: int | None = None,
        block: int = 8,
        checkpointing: bool = False,
        weights: str | None = None,
        adapters: list[Adapter] | None = None,
        options: Options | None = None,
    ) -> None:
        grid, low_grid, options = grid or [64, 64], low_grid or [16, 16], options or Options()
        hidden = 4 * width if mlp is None else mlp
        check_sizes(
            width,
            heads,
            {"grid": grid, "low_grid": low_grid},
            codebook_size=codebook_size,
            low_codebook_size=low_codebook_size,
            text_width=text_width,
            layers=layers,
            low_layers=low_layers,
            mlp=hidden,
            block=block,
        )
        if heads % 2:
            raise ValueError(f"heads is {heads}; it must be even: half of them look within blocks, half across")
        whole = (grid[0], grid[1])
        options.check(width, heads, whole)
        if options.registers:
            raise ValueError(f"options.registers is {options.registers}; they have no place in blocks: give 0")
        cells = options.cells(whole)
        check_block(block, cells, "tokens" if options.fold == 1 else "positions")
        rotation = options.rotation(whole, width // heads)

        def self_attention() -> SelfAttention:
            return MultiAxisAttention(width, heads, cells, block, rotation)

        super().__init__(
            codebook_size, grid, text_width, width, layers, heads, hidden, checkpointing, self_attention, options
        )
        self.low_codebook_size, self.low_grid = low_codebook_size, (low_grid[0], low_grid[1])
        self.embed_low = nn.Embedding(low_codebook_size + 1, width)  # the last row stands for MASK
        self.low_positions = nn.Parameter(torch.empty(*self.low_grid, width))
        low_rotation = Rotation(self.low_grid, width // heads) if options.rope else None
        self.low_blocks = layer_list(LowBlock(width, heads, hidden, options, low_rotation) for _ in range(low_layers))
        self.norm_low = nn.LayerNorm(width)
        load_or_start(self, weights, adapters, self.start)

    def start(self) -> None:
        """As any trunk; the encoder's writers scaled by its own depth, both grids' positions as the same waves."""
        super().start()
        for block in self.low_blocks:
            for writer in (block.self_attention.out, block.mlp[-1]):
                nn.init.normal_(writer.get_parameter("weight"), std=0.02 / (2 * len(self.low_blocks)) ** 0.5)
        with torch.no_grad():
            for positions in (self.positions, self.low_positions):
                positions.copy_(0.02 * waves(*positions.shape))

    def condition(self, text: TextEmbedding, low: Tensor | None = None) -> Conditioning:
        """The memory's mask bool[B, T + h' * w'], then every layer's keys and values float[B, heads, T + h' * w', d].

        low: int64[B, h', w'], the finished tokens of the stage before. One that is MASK is not looked at: a grid
        without any known token leaves the text alone.
        """
        if low is None:
            raise ValueError(
                f"the transformer {self.name!r} needs the finished tokens of a stage before it; "
                "put it behind a base stage, not first"
            )
        if tuple(low.shape[1:]) != self.low_grid:
            raise ValueError(
                f"the stage before gives a grid of {tuple(low.shape[1:])} tokens, "
                f"the transformer {self.name!r} has low_grid {self.low_grid}"
            )
        x = (look_up(self.embed_low, low) + self.low_positions).flatten(1, 2)
        for block in self.low_blocks:
            x = self.run(block, x)
        words = self.text_projection(text.states.to(self.positions.dtype))
        memory = torch.cat([words, self.norm_low(x).to(words.dtype)], 1)
        return self.look(memory, torch.cat([text.mask, (low >= 0).flatten(1)], 1), text)


def check_block(block: int, cells: tuple[int, int], what: str) -> None:
    """ValueError where blocks of that side don't divide a grid of positions, which are `what` to the user."""
    if any(side % block for side in cells):
        fit = [size for size in range(1, min(cells) + 1) if not any(side % size for side in cells)]
        raise ValueError(
            f"block is {block}, which does not divide the grid of {cells[0]}x{cells[1]} {what}; "
            f"these do: {', '.join(map(str, fit))}"
        )


def waves(height: int, width: int, channels: int) -> Tensor:
    """float[height, width, channels]: sines and cosines of each place's centre, whose coordinates span the picture.

    A quarter of the channels each for sine and cosine of y and of x, wavelengths from twice the picture down to a
    64th of it; channels left over by the division are 0.
    """
    each = channels // 4
    frequencies = math.pi * 128 ** (torch.arange(each) / max(1, each - 1))
    sides = []
    for count in (height, width):
        angles = ((torch.arange(count) + 0.5) / count)[:, None] * frequencies
        sides.append(torch.cat([angles.sin(), angles.cos()], -1))
    y, x = sides
    plane = torch.cat([y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)], -1)
    return nn.functional.pad(plane, (0, channels - plane.shape[-1]))
