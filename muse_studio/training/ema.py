"""The running average of a model's weights, which draws better than the last ones do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

AVERAGE = "average"
"""What a run's checkpoints call it."""


class RunningAverage:
    """average <- d * average + (1 - d) * weights, after each step; it begins as the model's weights.

    After n steps d is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage: at a constant 0.999
    a run of 300 steps would ship three quarters of its first weights. Buffers are the model's own. Where processes
    share the weights, each averages its share.

    steps: how many it has taken in; a checkpoint that fills it sets this.
    """

    # torch's AveragedModel copies the module itself, which FSDP2's modules refuse, and has its own names for tensors.
    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay, self.steps = model, decay, 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The average by the names of the model's tensors."""
        return self.tensors

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights as they are now."""
        now = self.model.state_dict()
        learned = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        for name in now.keys() - learned:
            self.tensors[name].copy_(now[name])
        names = [name for name in now if name in learned]
        if names:
            average = get_ema_multi_avg_fn(min(self.decay, self._rising))
            average([self.tensors[name] for name in names], [now[name] for name in names], None)
        self.steps += 1

    @property
    def _rising(self) -> float:
        return (1 + self.steps) / (10 + self.steps)

    @property
    def lag(self) -> str:
        """What keeps the average behind the weights, for people; "" where it looks back as far as its decay says."""
        if self._rising >= self.decay:
            return ""
        return (
            f"fit.ema is {self.decay}, which looks back over some {1 / (1 - self.decay):,.0f} steps, and the average "
            f"has seen {self.steps:,}: it looks back over the last {1 / (1 - self._rising):,.0f} of them so far"
        )

    @torch.no_grad()
    def begin(self) -> None:
        """Begin anew, as the model's weights are now."""
        self._copy(self.model.state_dict(), self.tensors)
        self.steps = 0

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
        self._copy(tensors, self.model.state_dict())

    @staticmethod
    def _copy(given: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        for name, tensor in into.items():
            tensor.copy_(given[name])
