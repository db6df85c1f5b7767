"""Trains low-rank adapters: small matrices beside a model's linear layers, which stay as they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from muse_studio.errors import UserError
from muse_studio.nn.lora import fingerprint, linear_layers


class LowRank(nn.Module):
    """A frozen linear layer and what is learned beside it: W x + scale B A dropout(x) (Hu et al., 2021, section 4.1).

    A starts normal, of variance 1 / in, B with zeros, so that at first nothing is added. Both are linear layers
    themselves: an optimizer treats them as any matrix, and decay draws the model back to what it was.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        like: dict[str, Any] = {"bias": False, "device": base.weight.device, "dtype": base.weight.dtype}
        self.base, self.scale, self.dropout = base, scale, nn.Dropout(dropout)
        self.lora_A = nn.Linear(base.in_features, rank, **like)
        self.lora_B = nn.Linear(rank, base.out_features, **like)
        drawn = torch.empty(self.lora_A.weight.shape).normal_(std=base.in_features**-0.5, generator=generator)
        with torch.no_grad():
            self.lora_A.weight.copy_(drawn)
            self.lora_B.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """float[..., in] to float[..., out]."""
        return self.base(x) + self.scale * self.lora_B(self.lora_A(self.dropout(x)))


@dataclass
class LoRA:
    """A low-rank adapter to train (Hu et al., 2021).

    rank: of the change of each matrix; the file grows with it. alpha: the change counts alpha / rank times.
    targets: which linear layers, by their names, * for any letters. The default is all of the transformer's blocks:
    self_attention, cross_attention and mlp. Hu et al. adapt attention alone: blocks.*_attention.*.
    dropout: of the layers' inputs, on the way to the adapter alone.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: list[str] = field(default_factory=lambda: ["blocks.*"])
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; give 1 or more")
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"alpha is {self.alpha}; give a number above 0, such as the rank")
        if not self.targets:
            raise ValueError('targets is empty; name linear layers, such as ["blocks.*"]')
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it lies in 0..1 without 1")

    def settings(self, model: nn.Module) -> dict[str, Any]:
        """What the adapter's file is to say: these settings, and by `base` which weights it was trained on."""
        return asdict(self) | {"base": fingerprint(model)}

    def attach(self, model: nn.Module, generator: torch.Generator) -> nn.Module:
        """Freeze a model and wrap the layers aimed at, in place; returns the matrices that learn, as one module.

        Their names are those of the model, so that its state is what the adapter's file holds. UserError where a target
        aims at no layer, or a layer is too small for the rank.
        """
        layers = linear_layers(model)
        for target in self.targets:
            if not any(fnmatchcase(name, target) for name in layers):
                raise UserError(f"adapter.targets: {target} is none of the linear layers: {', '.join(layers)}")
        model.requires_grad_(False)
        learning = nn.Module()
        former: Any = getattr(model, "former_names", None)
        learning.former_names = former
        for name, layer in layers.items():
            if not any(fnmatchcase(name, target) for target in self.targets):
                continue
            if self.rank > (most := min(layer.in_features, layer.out_features)):
                raise UserError(f"adapter.rank is {self.rank}, and {name} has rank {most} at most; give less")
            wrapped = LowRank(layer, self.rank, self.alpha / self.rank, self.dropout, generator)
            model.set_submodule(name, wrapped.train(model.training))
            _plant(learning, name, nn.ModuleDict({"lora_A": wrapped.lora_A, "lora_B": wrapped.lora_B}))
        return learning


def _plant(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module into a tree under a dotted name, growing the branches that are missing."""
    *branches, leaf = name.split(".")
    for branch in branches:
        if branch not in root._modules:
            root.add_module(branch, nn.Module())
        root = root.get_submodule(branch)
    root.add_module(leaf, module)
