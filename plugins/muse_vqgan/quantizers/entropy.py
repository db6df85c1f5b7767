"""Entropy losses: sure of each place, even over the codebook."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

ENTROPY_TEMPERATURE = 0.01
"""MaskGIT's configs/vqgan_config.py."""


def entropy_loss(logits: Tensor) -> Tensor:
    """E[H(p)] - H(E[p]) over logits float[N, K]: sure of each place, even over the codebook (MaskGIT, losses.py)."""
    logs = F.log_softmax(logits, -1)
    share = logs.exp()
    return entropy_of(share.mean(0)).neg() - (share * logs).sum(-1).mean()


def entropy_of(share: Tensor) -> Tensor:
    """Of chances float[..., K], float[...] in nats."""
    return -(share * share.clamp(min=1e-9).log()).sum(-1)
