"""What the transformers may have beside what Muse has: all of it off by default, when no weight or bit differs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATIO_WAVES = 16
"""How many cosines the masked share is told in."""

ROPE_BASE = 100.0
"""Of the wavelengths, the longest of which is some sides of a grid (axial RoPE of Heo et al., 2024, 2403.13298)."""


@dataclass(frozen=True)
class Sketching:
    """The table `sketch` of `options`: the sizes of a sketch, which the task `solve-sketch` fills.

    things: how many things are known. manners: in how many ways they are drawn, such as styles.
    rank: numbers that a thing has at each position. code_width: of the tokenizer's codes.
    forgotten: of training's pictures, the share that is sketched as if that thing was never seen in that manner, so
        that the layers learn what to make of a sketch by the thing's other manners.
    """

    things: int
    manners: int
    rank: int = 64
    code_width: int = 32
    forgotten: float = 0.25

    def __post_init__(self) -> None:
        for name in ("things", "manners", "rank", "code_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"options.sketch.{name} is {getattr(self, name)}; give 1 or more")
        if not 0 <= self.forgotten < 1:
            raise ValueError(f"options.sketch.forgotten is {self.forgotten}; give a share from 0, below 1")


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
    sketch: the sizes of a table of things and manners that guesses each code by the text before the layers do; the
        task `solve-sketch` fills it. Not of critics.

    Neither registers nor fold go with a `cache`.
    """

    rope: bool = False
    swiglu: bool = False
    dropout: float = 0.0
    mask_ratio: bool = False
    registers: int = 0
    fold: int = 1
    sketch: Sketching | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"options.dropout is {self.dropout}; give a share from 0, below 1")
        if self.registers < 0:
            raise ValueError(f"options.registers is {self.registers}; give 0 or more")
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
