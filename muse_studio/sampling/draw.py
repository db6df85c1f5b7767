"""One code for each place, drawn from its logits: temperature, top-k, top-p; a picture at a time where that pays."""

from __future__ import annotations

from collections.abc import Callable

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


def each_picture(compute: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """What `compute` makes of float32[B, n, K], and of others that lead with B; to it no row matters to another.

    On a CPU picture by picture: one's probabilities over the codes stay in its cache, and the next one's take their
    memory, where those of eight pictures of aMUSEd are new pages for the kernel to hand out. Elsewhere all at once.
    """
    if logits.device.type != "cpu":
        return compute(logits, *others)
    return torch.cat([compute(*rows) for rows in zip(*(each.split(1) for each in (logits, *others)), strict=True)])
