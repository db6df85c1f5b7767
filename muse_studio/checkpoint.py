"""Checkpoints of a training run: safetensors, a folder a step, written aside and renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from muse_studio import weights
from muse_studio.errors import UserError

DONE = "state.json"
"""Written last, so that its presence says that the rest is whole."""


def save(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    keep: int,
) -> Path:
    """Write `folder/step-<step>` and delete all but the newest `keep`; returns the path."""
    target = folder / f"step-{step:07d}"
    aside = folder / f".{target.name}.{os.getpid()}"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        for name, module in modules.items():
            weights.save(module.state_dict(), aside / f"{name}.safetensors", {})
        for name, optimizer in optimizers.items():
            weights.save(_tensors(optimizer), aside / f"{name}.optimizer.safetensors", {})
        (aside / DONE).write_text(json.dumps({"step": step, "files": _sizes(aside)}), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(aside, target)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(
            f"the checkpoint of step {step} could not be written to {folder}: {error.strerror or error}; "
            "earlier ones are kept: make room, then run the same command again"
        ) from error
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return target


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, or None."""
    return next((path for path in sorted(folder.glob("step-*"), reverse=True) if _whole(path)), None)


def load(path: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]) -> int:
    """Put a checkpoint's state back; returns its step. UserError where it is another model's."""
    for name, module in modules.items():
        weights.load(module, str(path / f"{name}.safetensors"))
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in load_file(path / f"{name}.optimizer.safetensors").items():
            index, _, field = key.partition(".")
            state.setdefault(int(index), {})[field] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads((path / DONE).read_text(encoding="utf-8"))["step"]


def _tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{field}": torch.as_tensor(value) for index, fields in state.items() for field, value in fields.items()
    }


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}


def _whole(path: Path) -> bool:
    try:
        return json.loads((path / DONE).read_text(encoding="utf-8"))["files"] == _sizes(path)
    except (OSError, ValueError, KeyError):
        return False
