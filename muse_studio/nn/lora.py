"""Low-rank adapters (LoRA): small files that change a model's linear layers, mixed into its weights by a recipe."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from muse_studio.errors import UserError
from muse_studio.runtime import weights

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
"""How the names of an adapter's two matrices end, behind their layer's: A float[rank, in], B float[out, rank]."""

KEY = "adapter"
"""Where a file's settings say alpha, the rank, and which weights the adapter was trained on."""


@dataclass
class Adapter:
    """One adapter to draw with: what it learned is added to the model's weights, `scale` times.

    weights: an address of its safetensors. scale: 1 is as it was trained, less is a hint of it, 0 nothing at all, and
    below 0 moves away from what it learned.
    """

    weights: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"scale is {self.scale}; give a number, such as 0.8")


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a model by their names in it."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def fingerprint(model: nn.Module) -> str:
    """The sha256 of a model's weights, their names and shapes among them, whatever device they are on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def is_adapter(address: str) -> bool:
    """Whether a safetensors file holds an adapter; UserError where it is missing or not whole."""
    return any(name.endswith((DOWN, UP)) for name in weights.header(weights.local(address))[0])


def load_or_start(
    model: nn.Module, address: str | None, adapters: Sequence[Adapter] | None, start: Callable[[], None]
) -> None:
    """Random weights, by `start`, or those of a file, to which adapters are added.

    ValueError where there are adapters and no weights, UserError where a file doesn't fit.
    """
    if address is None:
        if adapters:
            raise ValueError("adapters change weights, and there are none: give those they were trained on as weights")
        start()
        return
    if is_adapter(address):
        raise UserError(f"weights: {address} holds an adapter, not whole weights; give it in the list `adapters`")
    weights.load(model, address)
    merge(model, adapters or [])


@torch.no_grad()
def merge(model: nn.Module, adapters: Sequence[Adapter]) -> None:
    """Add adapters to a model's linear layers: W + sum_i scale_i (alpha_i / rank_i) B_i A_i (Hu et al., 2021, 4.1).

    Drawing then costs what it costs without. A model on the meta device is only compared. Raises UserError where a file
    holds no adapter, or one of another model. One that was trained on other weights of the same shapes is warned of and
    added all the same: on a model that was trained a little further, or kept in another number type, it still serves.
    """
    layers = linear_layers(model)
    ranks = [_ranks(adapter.weights, layers, model) for adapter in adapters]
    factors = [_alpha(adapter.weights) * adapter.scale for adapter in adapters]
    if not adapters or any(tensor.is_meta for tensor in model.state_dict().values()):
        return
    base = fingerprint(model)
    for adapter, found, factor in zip(adapters, ranks, factors, strict=True):
        if _said(adapter.weights).get("base", base) != base:
            warnings.warn(
                f"the adapter {adapter.weights} was trained on other weights than these; what it learned may look "
                "otherwise on them",
                stacklevel=2,
            )
        if factor == 0:
            continue
        low = weights.read(adapter.weights)
        for name, rank in found.items():
            weight = layers[name].weight
            change = low[name + UP].to(weight) @ low[name + DOWN].to(weight)
            weight.add_(change, alpha=factor / rank)


def _ranks(address: str, layers: Mapping[str, nn.Linear], model: nn.Module) -> dict[str, int]:
    """The rank of each layer that a file's adapter changes; UserError, naming the tensor, where it doesn't fit."""
    shapes, _ = weights.header(weights.local(address))
    if not is_adapter(address):
        raise UserError(
            f"adapters: {address} holds no adapter, it has {next(iter(shapes), 'nothing')}; whole weights are given "
            "as `weights`"
        )
    found = _found(shapes)
    wanted = _wanted(found, layers)
    for name in [*shapes, *wanted]:
        if name not in shapes or shapes[name] != wanted.get(name):
            from muse_studio.runtime.former import former_names

            former = former_names(model)
            if former is not None and (renamed := former.renamed(shapes)) == _wanted(_found(renamed), layers):
                raise former.refusal(f"adapters: {address}", shapes, address)
            raise UserError(
                f"adapters: {address} is of another model than this one: {name} is {shapes.get(name, 'missing')}, "
                f"{f'not {wanted[name]}' if name in wanted else 'which belongs to no linear layer here'}; "
                "draw with the model that it was trained on"
            )
    return found


def _found(shapes: Mapping[str, list[int]]) -> dict[str, int]:
    """The ranks that a file's shapes tell, by layer."""
    return {
        name.removesuffix(DOWN): shape[0] for name, shape in shapes.items() if name.endswith(DOWN) and any(shape[:1])
    }


def _wanted(ranks: Mapping[str, int], layers: Mapping[str, nn.Linear]) -> dict[str, list[int]]:
    """The shapes that an adapter of those ranks must have, by tensor, for the layers that there are."""
    wanted: dict[str, list[int]] = {}
    for name, rank in ranks.items():
        if (layer := layers.get(name)) is not None:
            wanted |= {name + DOWN: [rank, layer.in_features], name + UP: [layer.out_features, rank]}
    return wanted


def _alpha(address: str) -> float:
    alpha = _said(address).get("alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise UserError(
            f"adapters: {address} does not say its alpha, by which its matrices count; give the adapter.safetensors "
            "that its training wrote at its end"
        )
    return float(alpha)


def _said(address: str) -> Mapping[str, Any]:
    """What a file says of its adapter."""
    settings = weights.settings(address).get(KEY)
    return settings if isinstance(settings, Mapping) else {}
