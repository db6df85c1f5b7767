"""Adafactor with the paper's figures, which no library's can say: momentum, and a capped second-moment decay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from muse_training.optimizers import Standard, check, given_rate, groups


@dataclass
class Adafactor:
    """Adafactor (Shazeer and Stern, 2018) as Muse names it: rate 1e-4, betas [0.9, 0.96], weight_decay 0.045 (table 4).

    A matrix's second moment is kept as one number a row and one a column. The paper's "beta2 0.96" is read as the cap
    of the decay 1 - t^-0.8, the form of the JAX implementations; updates are cut to a root mean square of `clip`.

    momentum: what the momentum is kept in; bfloat16 takes half the memory, a quarter of all that training keeps.
    lr: another name of rate; give one of them.
    """

    rate: float = Standard(1e-4)
    betas: list[float] = field(default_factory=lambda: [0.9, 0.96])
    weight_decay: float = 0.045
    clip: float = 1.0
    momentum: Literal["float32", "bfloat16"] = "float32"
    lr: float | None = None

    def __post_init__(self) -> None:
        self.rate, self.lr = given_rate(self.rate, self.lr), None
        check(self.rate, self.betas, self.weight_decay)
        if self.clip <= 0:
            raise ValueError(f"clip is {self.clip}; give a root mean square above 0")

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer of the model's learning parameters."""
        return FactoredOptimizer(groups(model, self.weight_decay), self)


class FactoredOptimizer(torch.optim.Optimizer):
    """Adafactor without parameter scaling; nothing in a step is read back from the device."""

    def __init__(self, params: list[dict], settings: Adafactor) -> None:
        super().__init__(params, {"lr": settings.rate, "betas": tuple(settings.betas), "clip": settings.clip})
        self._kept_in = getattr(torch, settings.momentum)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no step here takes a closure
        """One step for every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad.float(), group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["momentum"] = torch.zeros_like(gradient, dtype=self._kept_in)
            if gradient.ndim >= 2:
                state["rows"], state["columns"] = gradient.new_zeros(gradient.shape[:-1]), gradient.mean(-2).zero_()
            else:
                state["moment"] = torch.zeros_like(gradient)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        decay = (1 - state["step"] ** -0.8).clamp(max=beta2)
        square = gradient.square() + 1e-30  # keeps a gradient of zeros from dividing by zero (the paper's epsilon 1)
        if gradient.ndim >= 2:
            rows, columns = state["rows"], state["columns"]
            rows.mul_(decay).add_(square.mean(-1) * (1 - decay))
            columns.mul_(decay).add_(square.mean(-2) * (1 - decay))
            scale = (rows / rows.mean(-1, keepdim=True)).rsqrt().unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)
        else:
            scale = state["moment"].mul_(decay).add_(square * (1 - decay)).rsqrt()
        update = gradient * scale
        update = update / (update.square().mean().sqrt() / group["clip"]).clamp(min=1)
        momentum = state["momentum"].float().lerp_(update, 1 - beta1)  # float() of float32 is the very same tensor
        state["momentum"].copy_(momentum)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(momentum * group["lr"])
