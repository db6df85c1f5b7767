"""Sizes that can't be are refused by the setting's name."""

from __future__ import annotations

from torch import Tensor


def check_grid(tokens: Tensor, grid: tuple[int, ...]) -> None:
    """ValueError where tokens int64[B, h, w] have another grid."""
    if tuple(tokens.shape[1:]) != grid:
        raise ValueError(f"a grid of {tuple(tokens.shape[1:])} tokens was given, the transformer has grid {grid}")


def check_sizes(sizes: dict[str, int], grid: list[int]) -> None:
    """ValueError, naming the setting, where a size can't be."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; give 1 or more")
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"grid is {grid}; give two numbers, each 1 or more")


def base_alone(low: Tensor | None, part: str) -> None:
    """ValueError where there are low-resolution tokens."""
    if low is not None:
        raise ValueError(
            f"the transformer {part!r} is a base model and takes no low-resolution tokens; make it the first stage"
        )
