"""Short names for what determines a record: frozen parts by their weights, data by value."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn


def fingerprint(*things: object) -> str:
    """A short name for things: parts as `of_part` has them, tensors by value, else by repr."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Tensor):
            digest.update(f"{thing.dtype} {list(thing.shape)}".encode() + _bytes(thing))
        else:
            digest.update(repr(thing).encode())
    return digest.hexdigest()[:16]


def of_part(part: Any) -> str:
    """A short name for what a frozen part answers by: its kind, its plain settings, and its weights.

    A part may say more exactly what counts: by `identity`, a text that stands for all of it (a text encoder whose
    weights are large and load late), or by `encodes_by`, what the names of those weights begin with that make tokens,
    so that a tokenizer stays the same one when its decoder is trained further.
    """
    if isinstance(reported := getattr(part, "identity", None), str):
        return fingerprint(reported)
    digest = hashlib.sha256(type(part).__qualname__.encode())
    modules = dict(part.named_modules()) if isinstance(part, nn.Module) else {"": part}
    only = tuple(getattr(part, "encodes_by", ("",)))
    for name, module in sorted(modules.items()):
        if not name or f"{name}.".startswith(only):
            plain = {key: value for key, value in sorted(vars(module).items()) if _plain(key, value)}
            digest.update(f"{name} {plain}".encode())
    if isinstance(part, nn.Module):
        for name, tensor in sorted(part.state_dict().items()):
            if name.startswith(only):
                digest.update(f"{name} {list(tensor.shape)}".encode() + _bytes(tensor.float()))
    return digest.hexdigest()[:16]


def _plain(key: str, value: object) -> bool:
    """Whether an attribute is a setting: a number, and not whether the module is trained just now."""
    return not key.startswith("_") and key != "training" and type(value) in (bool, int, float)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
