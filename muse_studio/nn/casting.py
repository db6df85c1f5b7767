"""Weights in bfloat16 for a model that only draws: those of the layers that compute in it."""

from __future__ import annotations

import torch
from torch import nn

from muse_studio.nn.layers import Head

MULTIPLIERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
"""Layers that autocast computes in bfloat16, whose weights it casts at every call."""


def cast_layers(model: nn.Module) -> None:
    """Cast the weights of such layers in place, but those of a `Head`, which computes in float32."""
    exact = in_float32(model)
    for module in model.modules():
        if isinstance(module, MULTIPLIERS) and module not in exact:
            module.to(torch.bfloat16)


def in_float32(model: nn.Module) -> set[nn.Module]:
    """The layers of a model that stand in a `Head`."""
    return {layer for head in model.modules() if isinstance(head, Head) for layer in head.modules()}
