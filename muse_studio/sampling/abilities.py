"""What parts can do beside their contracts: one question for each ability that `contracts` describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from muse_studio.contracts import Conditioning, Editor, Guidance, Objective, Predict, Sampler, Transformer

Grid = tuple[int, int]


@dataclass(frozen=True)
class LowTokens:
    """The tokens of the stage before that a transformer refines: their grid and, where it says so, their codes."""

    grid: Grid
    codebook_size: int | None


def is_critic(model: Transformer) -> bool:
    """Whether it scores tokens instead of predicting them (`contracts.Critic`)."""
    return getattr(model, "outputs", None) == 1


def outputs_of(model: Transformer) -> int:
    """How many logits a place it gives: as many as it says, else one for each code."""
    return getattr(model, "outputs", None) or model.codebook_size


def fixed_grid(model: Transformer) -> Grid | None:
    """The single grid that it takes, None where it takes any (`contracts.FixedGrid`)."""
    grid = getattr(model, "grid", None)
    return None if grid is None else (grid[0], grid[1])


def says_low_tokens(model: Transformer) -> bool:
    """Whether it says what it refines, be it nothing (`contracts.Refining`)."""
    return hasattr(model, "low_grid")


def low_tokens(model: Transformer) -> LowTokens | None:
    """What it refines, None where that is nothing."""
    grid = getattr(model, "low_grid", None)
    return None if grid is None else LowTokens((grid[0], grid[1]), getattr(model, "low_codebook_size", None))


def is_placewise(part: Transformer | Guidance | Predict) -> bool:
    """Whether it takes some places of the grid alone (`contracts.Placewise`)."""
    return bool(getattr(part, "placewise", False))


def joining(model: Transformer) -> Callable[[Sequence[Conditioning]], Conditioning] | None:
    """Its way to make one batch of several texts' conditionings, None where it has none (`contracts.Joining`)."""
    return getattr(model, "join", None)


def takes_micro(model: Transformer) -> bool:
    """Whether it takes a text's micro-conditions (`contracts.TakingMicro`)."""
    return bool(getattr(model, "takes_micro", False))


def critic_of(sampler: Sampler) -> Transformer | None:
    """The critic that it asks, None where it asks none (`contracts.AskingCritic`)."""
    return getattr(sampler, "critic", None)


def is_rowwise(sampler: Sampler) -> bool:
    """Whether it draws each picture's noise from a generator of the picture's own (`contracts.Rowwise`)."""
    return bool(getattr(sampler, "rowwise", False))


def iterations(editor: Editor) -> int | None:
    """How often it changes the grid, None where it is done at once (`contracts.Iterative`)."""
    return getattr(editor, "iterations", None)


def check_low(what: str, low: LowTokens | None, before: Any) -> None:
    """ValueError, with the cure, where a network wants other low-resolution tokens than those of `before`.

    what: what errors call the network: "transformer", "critic". low: what it wants, None where it refines nothing.
    before: the stage before, None where there is none.
    """
    if before is None and low is None:
        return
    if before is None:
        assert low is not None
        raise ValueError(
            f"its {what} refines a grid of {low.grid[0]}x{low.grid[1]} tokens, and no stage comes before it; "
            "put a base stage first"
        )
    if low is None:
        raise ValueError(
            f"its {what} is a base model, which can't refine the tokens of the stage before it; "
            f"put it first, or take a super-resolution {what}"
        )
    if low.grid != tuple(before.grid):
        raise ValueError(
            f"its {what} refines a grid of {low.grid[0]}x{low.grid[1]} tokens, the stage before it gives "
            f"{before.grid[0]}x{before.grid[1]}; set low_grid to that, or the size of the stage before"
        )
    codes, given = low.codebook_size, before.tokenizer.codebook_size
    if codes not in (None, given):
        raise ValueError(
            f"its {what} refines tokens of {codes} codes, the tokenizer of the stage before it has {given}; "
            f"set low_codebook_size to {given}"
        )


def model_of(guidance: Guidance) -> Transformer | None:
    """The transformer that it asks beside the stage's, None where it asks none (`contracts.AskingModel`)."""
    return getattr(guidance, "model", None)


def needs_pixels(objective: Objective) -> bool:
    """Whether it needs the pictures themselves (`contracts.Needing`)."""
    return bool(getattr(objective, "pixels", False))


def needs_layer(objective: Objective) -> int | None:
    """Whose states it needs, None where it needs none (`contracts.Needing`)."""
    return getattr(objective, "layer", None)


def learns(objective: Objective) -> str:
    """What of a stage learns by it, "transformer" or "critic" (`contracts.Needing`)."""
    return getattr(objective, "learns", "transformer")
