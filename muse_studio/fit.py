"""How long, on what and by which rates a run trains: the settings that every training task shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from muse_studio.files import open_folder, path_of
from muse_studio.order import key_of


@dataclass
class Fit:
    """How a run trains: the table `fit` of a training recipe.

    out: the run's folder: checkpoints, log.csv, the trained weights. A run found there goes on where it stopped.
    dtype: of the trained weights' file; halves are half as large, and as good to draw with.
    steps, batch: optimizer steps, records each. seed: of the data's order and of all noise.
    warmup, decay, floor: steps of linear warm-up; then the rate follows a cosine to `floor` times its peak, or stays.
    clip: the gradient norm is cut to this. ema: decay of the running average of the weights, which is then shipped.
    precision: bfloat16 computes under autocast; weights stay float32.
    compile: fuses a masked transformer's small operations (torch.compile): faster steps, after a first one of a minute
    or two; a tokenizer's steps stay as they are.
    checkpoint_every, keep, log_every: in steps, and how many checkpoints stay. workers: processes that read records.
    """

    out: str
    steps: int
    batch: int
    seed: int = 0
    warmup: int = 0
    decay: Literal["cosine", "constant"] = "cosine"
    floor: float = 0.0
    clip: float | None = 1.0
    ema: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 20
    workers: int = 0
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.checkpoint_every, self.keep, self.log_every) < 1:
            raise ValueError("steps, batch, checkpoint_every, keep and log_every must be 1 or more")
        if self.warmup < 0 or self.workers < 0 or self.seed < 0:
            raise ValueError("warmup, workers and seed must be 0 or more")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is {self.floor}; it is a share of the peak rate, from 0 to 1")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is {self.ema}; a decay lies between 0 and 1, such as 0.999")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip is {self.clip}; give a gradient norm above 0, or null for none")

    def folder(self) -> Path:
        """The run's folder, made where it is missing; UserError, before anything costly, where it can't be written."""
        return open_folder(path_of(self.out), "fit.out")

    def rate(self, step: int) -> float:
        """The factor of the learning rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.decay == "constant":
            return 1.0
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2

    def generator(self, step: int, purpose: str) -> torch.Generator:
        """Host noise that is a function of (seed, step, purpose): equal on every device, and nothing to save."""
        return torch.Generator().manual_seed(key_of(self.seed, step, purpose) >> 1)

    def autocast(self, on: torch.device) -> torch.autocast:
        """The context that a forward pass runs in."""
        return torch.autocast(on.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        """Backward, clip, step; returns the gradient norm before clipping."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self.clip if self.clip is not None else math.inf)
        optimizer.step()
        return norm
