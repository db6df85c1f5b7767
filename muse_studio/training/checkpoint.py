"""Checkpoints of a training run: safetensors, a folder a step, written aside and renamed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from muse_studio.errors import UserError
from muse_studio.runtime import weights
from muse_studio.runtime.files import file_name, replacing_folder
from muse_studio.runtime.former import refuse_former
from muse_studio.training.distributed import SINGLE, World
from muse_studio.training.parallel import full_tensor, local_share

FOLDER = "checkpoints"
"""In a run's folder, that of its checkpoints."""

STATE = "state.json"
"""Written last, so that its presence says that the rest is whole: the step, each file's size, each optimizer's kind."""

CURE = "give another folder as fit.out, or the settings that it was made with"


class Stateful(Protocol):
    """What a checkpoint holds the tensors of: a module, or the running average of one."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """The tensors themselves, by name."""


def save(
    folder: Path,
    step: int,
    modules: Mapping[str, Stateful],
    optimizers: Mapping[str, torch.optim.Optimizer],
    keep: int,
    world: World = SINGLE,
    good: int | None = None,
) -> Path:
    """Write `folder/step-<step>`, and delete all but the newest `keep` that are whole; returns the path.

    good: a step, up to which checkpoints are known to be good; the newest of those is kept too.

    Every process calls it, as each may hold a share of the tensors; the first one writes. Raises UserError where it
    can't be written; what was there before is then kept.
    """
    files = {f"{file_name(name, str(folder))}.safetensors": each.state_dict() for name, each in modules.items()}
    files |= {f"{name}.optimizer.safetensors": _tensors(optimizer) for name, optimizer in optimizers.items()}
    tensors = {name: gathered(each, world) for name, each in files.items()}
    target = folder / f"step-{step:07d}"
    kinds = {name: type(optimizer).__name__ for name, optimizer in optimizers.items()}

    def write() -> None:
        _write(target, step, tensors, kinds)
        _tidy(folder, keep, good)

    world.on_main(write)
    return target


def _write(target: Path, step: int, files: Mapping[str, Mapping[str, Tensor]], optimizers: Mapping[str, str]) -> None:
    for left in target.parent.glob(".step-*"):  # by a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    try:
        with replacing_folder(target) as aside:
            for name, tensors in files.items():
                weights.save(tensors, aside / name, {})
            state = {"step": step, "files": _sizes(aside), "optimizers": optimizers}
            (aside / STATE).write_text(json.dumps(state), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
    except (OSError, UserError) as error:
        raise UserError(
            f"the checkpoint of step {step} could not be written: {error}; earlier ones are kept: "
            "make room, then run the same command again"
        ) from error


def _tidy(folder: Path, keep: int, good: int | None) -> None:
    """Delete old checkpoints."""
    # What is not whole must not count, or it would push out the very checkpoint that was just written.
    complete = [path for path in steps(folder) if _whole(path)]
    known = [path for path in complete if good is not None and _step(path) <= good]
    for old in set(steps(folder)) - set(complete[-keep:]) - set(known[-1:]):
        shutil.rmtree(old, ignore_errors=True)


def gathered(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Tensors put together on the host of the first process; the others only give their shares."""
    # torch's get_model_state_dict takes modules alone; averages, and optimizers by number, would need this beside it.
    host = {}
    for name, tensor in tensors.items():  # one at a time: a device may hold one whole tensor more, not all of them
        found = full_tensor(tensor.detach())
        if world.is_main:
            host[name] = found.cpu()
    return host


def newest(folder: Path, until: int | None = None) -> Path | None:
    """The newest checkpoint that is whole, and of step `until` or before where that is given, or None."""
    found = (path for path in reversed(steps(folder)) if until is None or _step(path) <= until)
    return next((path for path in found if _whole(path)), None)


def load(path: Path, modules: Mapping[str, Stateful], optimizers: Mapping[str, torch.optim.Optimizer]) -> int:
    """Put a checkpoint's state back, each process its share; returns its step.

    UserError where it is of another model or optimizer. Settings of the optimizers, such as the rate, stay those of the
    recipe.
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
        file = str(path / f"{name}.safetensors")
        if message := weights.difference(module, file):
            run = path.parent.parent  # as a whole: its other checkpoints and its log are needed to go on
            refuse_former(module, file, *weights.compared(module, file), run, "then go on with fit.out=converted")
            raise UserError(f"{file} does not fit here: {message}; {CURE}")
        _fill(module.state_dict(), weights.read(file))
    for name, optimizer in optimizers.items():
        file = str(path / f"{name}.optimizer.safetensors")
        saved = weights.read(file)
        _begin(optimizer, {int(key.partition(".")[0]) for key in saved})
        if _shapes(_tensors(optimizer)) != _shapes(saved):
            raise UserError(f"{file} is of an optimizer with other settings; {CURE}")
        for number, fields in optimizer.state_dict()["state"].items():
            for field, value in fields.items():
                there = saved[f"{number}.{field}"]
                if isinstance(value, Tensor):
                    _fill({field: value}, {field: there})
                else:  # a count that is no tensor, as 8-bit optimizers keep
                    fields[field] = type(value)(there.item())
    return state["step"]


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(local_share(saved[name], tensor))


def _begin(optimizer: torch.optim.Optimizer, stepped: set[int]) -> None:
    """Give those parameters, by number, a state as their first step does: of its shapes, types and shares.

    No weight changes: gradients and rates are zero for it.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rates = [group["lr"] for group in optimizer.param_groups]
    for number in stepped:
        parameters[number].grad = torch.zeros_like(parameters[number])
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state: "3.exp_avg" is a parameter's number and a field's name."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{field}": torch.as_tensor(value) for index, fields in state.items() for field, value in fields.items()
    }


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}


def steps(folder: Path) -> list[Path]:
    """The folders of checkpoints, whole or not, the newest last."""
    return [folder / name for name in in_order(path.name for path in folder.glob("*"))]


def in_order(names: Iterable[str]) -> list[str]:
    """Those names that checkpoints' folders have, the newest last."""
    return sorted((name for name in names if re.fullmatch(r"step-\d+", name)), key=lambda name: _step(Path(name)))


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _whole(path: Path) -> bool:
    try:
        return json.loads((path / STATE).read_text(encoding="utf-8"))["files"] == _sizes(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
