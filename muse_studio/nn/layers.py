"""What networks share: the layers of transformers, and what sizes and tokens are refused, each by a ValueError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


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


class Exact(nn.Sequential):
    """Layers that compute in float32 where nothing is learned, whatever autocast says.

    They are those that are asked once a picture or decide at once: what is rounded there is amplified by all that
    follows, and costs next to nothing to keep.
    """

    def forward(self, x: Tensor) -> Tensor:
        """What the layers make of it, float32 where no gradient is wanted."""
        if torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(next(self.parameters()).dtype))


class ExactLinear(nn.Linear):
    """A linear layer that computes as `Exact` does."""

    def forward(self, x: Tensor) -> Tensor:
        """float[..., D] to float[..., E], float32 where no gradient is wanted."""
        if torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class Head(Exact):
    """The layers that make logits.

    Guidance amplifies the difference of two logits, and with it what bfloat16 has rounded: at t = 4 a place's
    distribution is off by 1.9% in total variation, in the mean. What ends in a linear layer is a classifier: each of
    its rows is a code's, and no row of a hidden layer (see the optimizer `muon`).
    """

    @property
    def classifier(self) -> nn.Linear | None:
        """The linear layer whose rows are codes, None where what follows the head makes the logits."""
        last = self[-1]
        return last if isinstance(last, nn.Linear) else None


def tied_logits(x: Tensor, table: Tensor, bias: Tensor) -> Tensor:
    """Logits float[..., K] of float[..., D] by the embeddings of the codes float[K, D]; computed as a `Head` is."""
    if torch.is_grad_enabled():
        return F.linear(x, table, bias)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(table.dtype), table, bias)


Layer = TypeVar("Layer", bound=nn.Module)


def layer_list(layers: Iterable[Layer]) -> Sequence[Layer]:
    """An `nn.ModuleList` of them, whose type says what is in it: torch's own says no more than that it is a module."""
    return cast("Sequence[Layer]", nn.ModuleList(layers))


def run_layer(layer: nn.Module, *given: Tensor | None, checkpointing: bool) -> Tensor:
    """What a layer makes of its arguments; with `checkpointing`, computed again in the backward pass, not kept."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(layer, *given, use_reentrant=False)
    return layer(*given)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """float[B, N, heads * d] to float[B, heads, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """float[B, heads, N, d] to float[B, N, heads * d]."""
    return x.transpose(1, 2).flatten(2)


def rms_norm(x: Tensor, eps: float, gain: Tensor | None = None) -> Tensor:
    """float[..., width] over its root mean square along the width, times the gain float[width]; in float32 within.

    A GPU has one kernel for it. On a CPU `F.rms_norm` is seven operations, twice as many passes as are needed; a
    gradient is left to it all the same, because that of a norm of zeros is not defined.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return F.rms_norm(x, x.shape[-1:], None if gain is None else gain.to(x.dtype), eps)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scaled = x * norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (scaled if gain is None else scaled.mul_(gain)).to(x.dtype)
