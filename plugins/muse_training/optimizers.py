"""Optimizers of PyTorch's own, with the field's weight-decay groups: none on norms, biases, embeddings, positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from muse_studio.errors import UserError

FUSED = ("cpu", "cuda", "mps", "xpu")
"""Kinds of devices for which torch has fused optimizers."""


def groups(model: nn.Module, decay: float) -> list[dict]:
    """The parameters that learn, in two groups: matrices of layers, which decay, and all else, which does not."""
    matrices = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
    }
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learning if id(p) in matrices], "weight_decay": decay},
        {"params": [p for p in learning if id(p) not in matrices], "weight_decay": 0.0},
    ]


def fused(model: nn.Module) -> bool:
    """Whether torch has AdamW as one kernel where the model is."""
    return all(parameter.device.type in FUSED for parameter in model.parameters())


class Standard(float):
    """A rate that nobody gave: a part's own default, as distinct from the same number in a recipe."""


def given_rate(rate: float, lr: float | None) -> float:
    """The rate, by whichever of its two names it was given; ValueError where it was by both."""
    if lr is None:
        return rate
    if not isinstance(rate, Standard):
        raise ValueError(f"rate is {rate} and lr {lr}, which are two names of one setting; give one of them")
    return lr


def check(rate: float, betas: list[float], decay: float) -> None:
    """Ranges that every optimizer shares; ValueError where one is left."""
    if len(betas) != 2:
        raise ValueError(f"betas are {betas}; give two, as in [0.9, 0.96]")
    if rate <= 0 or decay < 0 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(
            f"rate {rate} must be above 0, weight_decay {decay} 0 or more, betas {betas} in 0..1 without 1"
        )


@dataclass
class AdamW:
    """AdamW (Loshchilov and Hutter, 2019). Muse's and MaskGIT's figures: betas [0.9, 0.96], weight_decay 0.045.

    rate: the learning rate at its peak. lr: another name of it; give one of them.
    """

    rate: float = Standard(1e-4)
    betas: list[float] = field(default_factory=lambda: [0.9, 0.96])
    weight_decay: float = 0.045
    lr: float | None = None

    def __post_init__(self) -> None:
        self.rate, self.lr = given_rate(self.rate, self.lr), None
        check(self.rate, self.betas, self.weight_decay)

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer of the model's learning parameters."""
        betas = (self.betas[0], self.betas[1])
        return torch.optim.AdamW(groups(model, self.weight_decay), self.rate, betas, fused=fused(model))


@dataclass
class Muon:
    """Muon (Jordan et al., 2024) for the matrices of the hidden layers, AdamW for all else, classifiers among it.

    A classifier is what a model's `head` ends in, where that is a linear layer, or says is its `classifier`.

    rate: of both; Muon's steps are scaled to AdamW's size (Liu et al., 2025, section 2.2), so AdamW's rates do.
    lr: another name of it; give one of them.
    """

    rate: float = Standard(1e-3)
    momentum: float = 0.95
    betas: list[float] = field(default_factory=lambda: [0.9, 0.96])
    weight_decay: float = 0.045
    lr: float | None = None

    def __post_init__(self) -> None:
        self.rate, self.lr = given_rate(self.rate, self.lr), None
        check(self.rate, self.betas, self.weight_decay)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it lies in 0..1 without 1")

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        """An optimizer of the model's learning parameters."""
        return MuonWithAdamW(model, self)


def _classifiers(model: nn.Module) -> Iterator[nn.Linear]:
    """The layers whose rows are codes, and no hidden layer's: AdamW treats each row for itself."""
    for module in model.modules():
        head = getattr(module, "head", None)
        last = [*head.modules()][-1] if isinstance(head, nn.Module) else None
        for found in (last, getattr(module, "classifier", None)):
            if isinstance(found, nn.Linear):
                yield found


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers behind one face: the groups and states of both, in one list."""

    def __init__(self, model: nn.Module, settings: Muon) -> None:
        matrices, others = groups(model, settings.weight_decay)
        classifiers = {id(each.weight) for each in _classifiers(model)}
        hidden = [p for p in matrices["params"] if p.ndim == 2 and id(p) not in classifiers]
        if not hidden:
            raise UserError(
                f"muon turns the matrices of hidden linear layers, and {type(model).__name__} has none; take adamw"
            )
        chosen = {id(p) for p in hidden}
        rest = [p for p in matrices["params"] if id(p) not in chosen]
        self.muon = torch.optim.Muon(
            hidden, settings.rate, settings.weight_decay, settings.momentum, adjust_lr_fn="match_rms_adamw"
        )
        all_else, betas = [matrices | {"params": rest}, others], (settings.betas[0], settings.betas[1])
        self.adamw = torch.optim.AdamW(all_else, settings.rate, betas, fused=fused(model))
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:1], self.param_groups[1:]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no step here takes a closure
        """One step of each."""
        self.muon.step()
        self.adamw.step()
        self.state.update(self.muon.state)
        self.state.update(self.adamw.state)

    def load_state_dict(self, state_dict: dict) -> None:
        """Puts a state back, each half to its optimizer."""
        super().load_state_dict(state_dict)
        self._share()
        for half in (self.muon, self.adamw):
            ours = {id(p) for group in half.param_groups for p in group["params"]}
            half.state.update({p: state for p, state in self.state.items() if id(p) in ours})
