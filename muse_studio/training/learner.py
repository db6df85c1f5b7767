"""What the training loop drives: a model, its optimizers, and how one step of it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from muse_studio.training.distributed import World


class Learner(ABC):
    """What the loop drives: `model` is trained and shipped; a checkpoint holds `modules` and `optimizers`, by name.

    tokens_per_record: how many tokens the model predicts of one record; None where it predicts none.
    watched: which of the numbers must not run away; None is the first, the loss, where that measures success.
    collate: makes a batch of records, as a DataLoader takes it; None is the DataLoader's own way.
    """

    world: World
    model: nn.Module
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    tokens_per_record: int | None = None
    watched: str | None = None
    collate: Callable[[Any], Any] | None = None

    @abstractmethod
    def step(self, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Learn from this process's rows of a batch at step `step`, counted from 0.

        Returns scalars to log, the first of them the loss, whose means over the processes are the batch's. A loss or a
        `norm` that is not finite stops the run; any other number that is NaN has nothing to say at this step. Noise
        from torch's global generator is a function of the step too.
        """
