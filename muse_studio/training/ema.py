"""The running average of a model's weights, which draws better than the last ones do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class RunningAverage:
    """average <- decay * average + (1 - decay) * weights, after each step; it begins as the first step's weights.

    Buffers are the model's own. Where processes share the weights, each averages its share.

    begun: whether it holds an average already, so that the next step is not the first; a checkpoint that fills it sets
    this.
    """

    # torch's AveragedModel copies the module itself, which FSDP2's modules refuse, and has its own names for tensors.
    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.begun = model, False
        self._average = get_ema_multi_avg_fn(decay)
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
            self._average([self.tensors[n] for n in names], [now[n] for n in names], None)
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
