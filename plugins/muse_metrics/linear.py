"""Softmax regression: the linear classifier that names the class of a row of features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from muse_studio.registry.events import progress


def fit_linear(
    rows: Tensor, classes: Tensor, count: int, *, epochs: int, rate: float, decay: float, batch: int, seed: int
) -> tuple[Tensor, Tensor]:
    """float32[N, D] and int64[N] in 0..count-1 to weight float32[count, D] and bias float32[count] of the logits.

    Features are scaled to mean 0 and deviation 1, which weight and bias have in them afterwards. AdamW on the
    cross-entropy, its rate falling to 0 by a cosine; decay: that of the weight, in terms of scaled features.
    """
    mean, deviation = rows.mean(0), rows.std(0).clamp(min=1e-6)
    scaled = (rows - mean) / deviation
    weight, bias = (torch.zeros(shape, requires_grad=True) for shape in ((count, rows.shape[1]), (count,)))
    groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    steps = epochs * -(-len(rows) // batch)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in progress(range(epochs), "training the judge"):
        for chosen in torch.randperm(len(rows), generator=generator).split(batch):
            loss = F.cross_entropy(F.linear(scaled[chosen], weight, bias), classes[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
    found = weight.detach() / deviation
    return found, bias.detach() - found @ mean
