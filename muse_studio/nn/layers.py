"""What the layers of transformers share: their list, heads, the root-mean-square norm, and how a layer is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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
