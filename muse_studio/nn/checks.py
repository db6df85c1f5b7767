"""What transformers and tokenizers refuse alike, naming the setting and the cure; each raises ValueError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def check_sizes(sizes: Mapping[str, int], grid: Sequence[int]) -> None:
    """Refuse sizes, by the names of their settings, below 1, and a `grid` that is no pair of such."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; give 1 or more")
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"grid is {grid}; give two numbers, each 1 or more")


def check_heads(sizes: Mapping[str, int], heads: str = "heads", width: str = "width") -> None:
    """Refuse a number of heads that does not divide the width; both by the names of their settings."""
    if sizes[width] % sizes[heads]:
        raise ValueError(
            f"{heads} is {sizes[heads]}, which {width} {sizes[width]} does not divide into; choose another of them"
        )


def check_grid(tokens: Tensor, grid: tuple[int, ...]) -> None:
    """Refuse tokens int64[B, h, w] of another grid than a transformer has."""
    if tuple(tokens.shape[1:]) != grid:
        raise ValueError(f"a grid of {tuple(tokens.shape[1:])} tokens was given, the transformer has grid {grid}")


def check_codes(tokens: Tensor, codebook_size: int) -> None:
    """Refuse tokens, MASK among them, that are no codes and so can't be decoded."""
    low, high = tokens.aminmax()
    if low < 0 or high >= codebook_size:
        raise ValueError(
            f"tokens from {int(low)} to {int(high)} can't be decoded: codes go from 0 to {codebook_size - 1}"
        )


def refuse_low(low: Tensor | None, part: str) -> None:
    """Refuse low-resolution tokens, of which a base model has no use."""
    if low is not None:
        raise ValueError(
            f"the transformer {part!r} is a base model and takes no low-resolution tokens; make it the first stage"
        )
