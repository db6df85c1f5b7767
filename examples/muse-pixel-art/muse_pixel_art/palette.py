"""The palette of 64 colours, which tokenizer and transformer share: four levels of red, green and blue."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 4
COLOURS = LEVELS**3


def join(channels: Tensor) -> Tensor:
    """Levels int64[..., 3] of red, green and blue, each 0..3, to codes int64[...]: (red * 4 + green) * 4 + blue."""
    red, green, blue = channels.unbind(-1)
    return (red * LEVELS + green) * LEVELS + blue


def split(codes: Tensor) -> Tensor:
    """Codes int64[...] to levels int64[..., 3]: what `join` did, undone."""
    return torch.stack([codes // LEVELS**2, codes // LEVELS % LEVELS, codes % LEVELS], -1)
