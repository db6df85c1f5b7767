"""One code for each place, drawn from its logits: temperature, top-k, top-p."""

from __future__ import annotations

import torch
from torch import Tensor

from muse_studio.sampling.noise import choose


def draw(logits: Tensor, uniform: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """float32[..., K] and float32[...] in 0..1 (1 excluded) to codes int64[...].

    Temperature first, then top-k, then top-p, as is usual; temperature 0 takes the most likely code.
    """
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    return choose(logits, uniform)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """-inf for all but the k largest of float[..., K], and what equals the smallest of these."""
    k = min(k, logits.shape[-1])
    return logits.masked_fill(logits < logits.topk(k).values[..., -1:], -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """-inf for all but the fewest codes of float[..., K] whose probabilities reach p together; one at least stays."""
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(dropped, -torch.inf)
