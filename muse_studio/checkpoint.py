"""Checkpoints of a training run: safetensors, a folder a step, written aside and renamed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from muse_studio import weights
from muse_studio.errors import UserError

STATE = "state.json"
"""Written last, so that its presence says that the rest is whole: the step, each file's size, each optimizer's kind."""

CURE = "give another folder as fit.out, or the settings that it was made with"


def save(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    keep: int,
) -> Path:
    """Write `folder/step-<step>`, and delete all but the newest `keep` that are whole; returns the path.

    Raises UserError where it can't be written; what was there before is then kept.
    """
    target = folder / f"step-{step:07d}"
    aside = folder / f".{target.name}.{os.getpid()}"
    for left in folder.glob(".step-*"):  # by a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    try:
        for name, module in modules.items():
            weights.save(module.state_dict(), aside / f"{name}.safetensors", {})
        for name, optimizer in optimizers.items():
            weights.save(_tensors(optimizer), aside / f"{name}.optimizer.safetensors", {})
        (aside / STATE).write_text(json.dumps(_state(step, optimizers, aside)), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(aside, target)
    except (OSError, UserError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(
            f"the checkpoint of step {step} could not be written: {error}; earlier ones are kept: "
            "make room, then run the same command again"
        ) from error
    # What is not whole must not count, or it would push out the very checkpoint that was just written.
    whole = [path for path in steps(folder) if _whole(path)]
    for old in set(steps(folder)) - set(whole[-keep:]):
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, or None."""
    return next((path for path in reversed(steps(folder)) if _whole(path)), None)


def load(path: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]) -> int:
    """Put a checkpoint's state back; returns its step. UserError where it is of another model or optimizer.

    Settings of the optimizers, such as the rate, stay those of the recipe.
    """
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    files = {f"{name}.safetensors" for name in modules} | {f"{name}.optimizer.safetensors" for name in optimizers}
    if files != set(state["files"]):
        raise UserError(
            f"{path} holds {', '.join(sorted(state['files']))}, this run needs {', '.join(sorted(files))}; {CURE}"
        )
    for name, kind in state.get("optimizers", {}).items():
        if kind != type(optimizers[name]).__name__:
            raise UserError(f"{path} is of the optimizer {kind}, not {type(optimizers[name]).__name__}; {CURE}")
    for name, module in modules.items():
        try:
            weights.load(module, str(path / f"{name}.safetensors"))
        except UserError as error:
            raise UserError(f"{error}; {CURE}") from error
    for name, optimizer in optimizers.items():
        fields: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in load_file(path / f"{name}.optimizer.safetensors").items():
            index, _, field = key.partition(".")
            fields.setdefault(int(index), {})[field] = tensor
        optimizer.load_state_dict({"state": fields, "param_groups": optimizer.state_dict()["param_groups"]})
    return state["step"]


def _tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{field}": torch.as_tensor(value) for index, fields in state.items() for field, value in fields.items()
    }


def _state(step: int, optimizers: Mapping[str, torch.optim.Optimizer], folder: Path) -> dict[str, Any]:
    kinds = {name: type(optimizer).__name__ for name, optimizer in optimizers.items()}
    return {"step": step, "files": _sizes(folder), "optimizers": kinds}


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}


def steps(folder: Path) -> list[Path]:
    """The folders of checkpoints, whole or not, the newest last."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def _whole(path: Path) -> bool:
    try:
        return json.loads((path / STATE).read_text(encoding="utf-8"))["files"] == _sizes(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
