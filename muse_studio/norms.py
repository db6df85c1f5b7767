"""The root-mean-square norm, in as few passes over the numbers as each device can do it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
