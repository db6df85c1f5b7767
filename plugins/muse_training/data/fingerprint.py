"""Short names for what determines a record: frozen parts by their weights, data by value."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Identified(Protocol):
    """A part, such as a text encoder whose weights are large and load late, with a text that stands for all of it."""

    identity: str


@runtime_checkable
class EncodesBy(Protocol):
    """A tokenizer that says what the names of those weights begin with that make tokens; its decoder's have no part."""

    encodes_by: tuple[str, ...]


def fingerprint(*things: object) -> str:
    """A short name for things: parts as `part_fingerprint` has them, tensors by value, else by repr."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Tensor):
            digest.update(f"{thing.dtype} {list(thing.shape)}".encode() + _bytes(thing))
        else:
            digest.update(repr(thing).encode())
    return digest.hexdigest()[:16]


def part_fingerprint(part: Any) -> str:
    """A short name for what a frozen part's output depends on: its kind, its plain settings, and its weights.

    A part may say more exactly what counts, where it is `Identified` or `EncodesBy`: a tokenizer stays the same one
    when its decoder is trained further.
    """
    identity = part.identity if isinstance(part, Identified) else None
    if isinstance(identity, str):  # and no layer that happens to be called so
        return fingerprint(identity)
    digest = hashlib.sha256(type(part).__qualname__.encode())
    modules = dict(part.named_modules()) if isinstance(part, nn.Module) else {"": part}
    only = tuple(part.encodes_by) if isinstance(part, EncodesBy) else ("",)
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
