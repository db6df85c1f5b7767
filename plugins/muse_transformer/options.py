"""What the transformers may have beside what Muse has: all of it off by default, when no weight or bit differs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATIO_WAVES = 16
"""How many cosines the masked share is told in."""

MAPPED = 64
"""Numbers a position that a sketch is made of."""

ROPE_BASE = 100.0
"""Of the wavelengths, the longest of which is some sides of a grid (axial RoPE of Heo et al., 2024, 2403.13298)."""


@dataclass(frozen=True)
class Options:
    """The table `options` of `muse`, `superres` and their critics.

    rope: queries and keys of self-attention are turned by their place's row and column, half of each head by either
        (2-D rotary positions, Heo et al., 2024); the learned positions stay beside them.
    swiglu: MLPs are gated (SwiGLU, Shazeer, 2020), which takes half as many weights again at the same `mlp`.
    dropout: the share of what each layer adds that training drops.
    mask_ratio: the share of a grid's tokens that is masked is an input, added at every place.
    registers: so many learned tokens beside the grid's, for attention to use (Darcet et al., 2024); of `muse` alone.
    fold: so many tokens a side share one position: their embeddings side by side go in, and each has its own layer out.
        2 leaves a quarter of the positions for the same grid, and samplers never notice.
    sketch: so many hidden units of an MLP that makes a first map of the grid of the whole text, the mean of its words'
        states. It is added to the positions: what things look like is remembered at the price of one position, where
        the layers would look it up at each. Of `muse` alone.

    Neither registers nor fold go with a `cache`.
    """

    rope: bool = False
    swiglu: bool = False
    dropout: float = 0.0
    mask_ratio: bool = False
    registers: int = 0
    fold: int = 1
    sketch: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"options.dropout is {self.dropout}; give a share from 0, below 1")
        if self.registers < 0:
            raise ValueError(f"options.registers is {self.registers}; give 0 or more")
        if self.sketch < 0:
            raise ValueError(f"options.sketch is {self.sketch}; give hidden units, or 0 for none")
        if self.fold < 1:
            raise ValueError(f"options.fold is {self.fold}; give 1 for none, or 2 or more tokens a side")

    def check(self, width: int, heads: int, grid: tuple[int, int]) -> None:
        """ValueError where they don't fit these sizes."""
        if self.rope and (width // heads) % 4:
            raise ValueError(
                f"options.rope turns quarters of a head, whose width is {width // heads}; choose width and heads so "
                "that 4 divides it"
            )
        if any(side % self.fold for side in grid) or width % self.fold**2:
            raise ValueError(
                f"options.fold is {self.fold}; it must divide both sides of the grid {list(grid)}, and its square the "
                f"width {width}"
            )

    def cells(self, grid: tuple[int, int]) -> tuple[int, int]:
        """How many positions a grid of tokens has, along both sides."""
        return grid[0] // self.fold, grid[1] // self.fold

    def rotation(self, grid: tuple[int, int], width: int) -> Rotation | None:
        """What turns queries and keys of that width over the grid's positions; None where nothing does."""
        return Rotation(self.cells(grid), width, self.registers) if self.rope else None

    def mlp(self, width: int, hidden: int) -> nn.Sequential:
        """float[..., width] to float[..., width] through a wider layer; the last one writes."""
        if self.swiglu:
            return nn.Sequential(Gate(width, hidden), nn.Linear(hidden, width))
        return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def drop(self) -> nn.Module:
        """What is done to all that a layer adds."""
        return nn.Dropout(self.dropout) if self.dropout else nn.Identity()


class Gate(nn.Module):
    """float[..., width] to float[..., hidden]: one half of a linear layer, gated by the SiLU of the other."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        gate, value = self.project(x).chunk(2, -1)
        return F.silu(gate) * value


class Rotation(nn.Module):
    """Turns pairs of numbers by angles: one half of the pairs by their row in the grid, the other by their column.

    What two turned vectors have in common then depends on how far apart their places are, not on where. `first` of the
    positions are no places of the grid, and are not turned.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, grid: tuple[int, int], width: int, first: int = 0) -> None:
        super().__init__()
        frequencies = ROPE_BASE ** -(torch.arange(width // 4) / (width // 4))
        rows, columns = (torch.arange(side)[:, None] * frequencies for side in grid)
        angles = torch.cat([rows[:, None].expand(-1, grid[1], -1), columns[None].expand(grid[0], -1, -1)], -1)
        angles = F.pad(angles.flatten(0, 1), (0, 0, first, 0))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """float[B, heads, N, width] to the same; places: int64[B, n], which of the N these are."""
        cos, sin = self.cos, self.sin
        if places is not None:
            cos, sin = cos[places].unsqueeze(1), sin[places].unsqueeze(1)
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1).to(x.dtype)


class Sketch(nn.Module):
    """What a text as a whole says of each position: its words' mean, through an MLP as wide as all positions.

    Each position gets `MAPPED` numbers, which one layer for all of them makes wider.
    """

    def __init__(self, text_width: int, hidden: int, positions: int, width: int, dropout: float) -> None:
        super().__init__()
        self.positions = positions
        self.read = nn.Sequential(nn.Linear(text_width, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Dropout(dropout))
        self.map, self.out = nn.Linear(hidden, positions * MAPPED), nn.Linear(MAPPED, width, bias=False)

    def start(self) -> None:
        """As loud at first as the learned positions are: what reads a vector of length 1 by 0.02 would hear nothing."""
        for layer, width in ((self.read[0], 1), (self.map, self.map.in_features), (self.out, MAPPED)):
            nn.init.normal_(layer.get_parameter("weight"), std=width**-0.5)
        nn.init.normal_(self.out.weight, std=0.02 * MAPPED**-0.5)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """float[B, T, D], bool[B, T] to float[B, N, width]; zeros where a row has no words."""
        words = mask.unsqueeze(-1).to(states.dtype)
        pooled = F.normalize((states * words).sum(1), dim=-1)
        made = self.out(self.map(self.read(pooled)).unflatten(-1, (self.positions, MAPPED)))
        return made * mask.any(-1).view(-1, 1, 1)


class MaskRatio(nn.Module):
    """What the transformer is told of how much is masked: float[B, 1, width] of int64[B, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(RATIO_WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """As the class says."""
        share = (tokens < 0).flatten(1).float().mean(1, keepdim=True)
        return self.project((share * math.pi * torch.arange(RATIO_WAVES, device=tokens.device)).cos()).unsqueeze(1)


def fold_cells(x: Tensor, fold: int) -> Tensor:
    """float[B, h, w, e] to float[B, h / fold, w / fold, fold * fold * e]: neighbours side by side."""
    x = x.unflatten(2, (-1, fold)).unflatten(1, (-1, fold))
    return x.transpose(2, 3).flatten(3)


def unfold_cells(x: Tensor, fold: int) -> Tensor:
    """What `fold_cells` made, undone: float[B, h', w', fold * fold * e] to float[B, h, w, e]."""
    x = x.unflatten(3, (fold, fold, -1)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)
