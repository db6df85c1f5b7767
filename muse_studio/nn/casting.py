"""Weights in bfloat16 for a model that only draws: those of the layers that compute in it."""

from __future__ import annotations

import torch
from torch import nn

from muse_studio.nn.layers import Exact, ExactLinear

MULTIPLIERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
"""Layers that autocast computes in bfloat16, whose weights it casts at every call."""


def cast_layers(model: nn.Module) -> None:
    """Cast the weights of such layers in place, but those of layers that compute in float32."""
    exact = in_float32(model)
    for module in model.modules():
        if isinstance(module, MULTIPLIERS) and module not in exact:
            module.to(torch.bfloat16)


def in_float32(model: nn.Module) -> set[nn.Module]:
    """The layers of a model that compute in float32 whatever autocast says, as those of a `Head` do."""
    exact = (each for each in model.modules() if isinstance(each, Exact | ExactLinear))
    return {layer for each in exact for layer in each.modules()}
