"""The running average of a model's weights, which draws better than the last ones do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class RunningAverage:
    """average <- decay * average + (1 - decay) * weights, after each step; it begins as the first step's weights.

    Buffers are the model's own. Where processes share the weights, each averages its share.
    """

    def __init__(self, model: nn.Module, decay: float, begun: bool) -> None:
        """begun: whether a checkpoint will fill it, so that the next step is not the first."""
        self.model, self.decay, self.begun = model, decay, begun
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The average by the names of the model's tensors."""
        return self.tensors

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights as they are now."""
        now = self.model.state_dict()
        learned = {name for name, _ in self.model.named_parameters(remove_duplicate=False)} if self.begun else set()
        for name in now.keys() - learned:
            self.tensors[name].copy_(now[name])
        names = [name for name in now if name in learned]
        if names:
            torch._foreach_lerp_([self.tensors[n] for n in names], [now[n] for n in names], 1 - self.decay)
        self.begun = True

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model is its average."""
        own = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self._set(self.tensors)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.model.state_dict().items():
            tensor.copy_(tensors[name])
