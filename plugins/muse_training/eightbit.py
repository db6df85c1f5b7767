"""AdamW whose moments are kept in 8 bits: a quarter of the memory of an optimizer's state, on a GPU alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from muse_studio.errors import UserError
from muse_training.optimizers import AdamW, groups

GPU = "cuda"
"""torch's name for the devices that the package is used on, NVIDIA's and AMD's."""


@dataclass
class AdamW8bit(AdamW):
    """AdamW by bitsandbytes, its moments quantized in blocks (Dettmers et al., 2022): 2 bytes a parameter, not 8.

    Small tensors, below 4,096 numbers, keep moments of 32 bits. Settings as those of `adamw`.
    """

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer of the model's learning parameters; UserError where they are on no GPU, or the package lacks."""
        on = next(model.parameters()).device.type
        if on != GPU:
            raise UserError(f"adamw8bit computes on a GPU alone, and the model is on {on}; take adamw or adafactor")
        try:
            from bitsandbytes.optim import AdamW8bit as Quantized
        except ImportError as error:
            raise UserError(
                f"adamw8bit needs the package bitsandbytes ({error}): pip install 'muse-studio[adamw8bit]'"
            ) from error
        return Quantized(groups(model, self.weight_decay), self.rate, tuple(self.betas))
