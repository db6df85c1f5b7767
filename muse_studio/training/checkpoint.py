"""Checkpoints of a training run: safetensors, a folder a step, written aside and renamed."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from muse_studio.errors import UserError, in_one_line, words_of
from muse_studio.runtime import weights
from muse_studio.runtime.files import file_name, replacing_folder, settle
from muse_studio.runtime.former import refuse_former
from muse_studio.training.distributed import SINGLE, World
from muse_studio.training.ema import AVERAGE, RunningAverage
from muse_studio.training.parallel import full_tensor, local_share
from muse_studio.training.state import Damaged, Identity, State

ASIDE = "damaged-"
"""What the names of checkpoints begin with that were passed over, and moved aside for it."""

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
    made: Identity | None = None,
) -> Path:
    """Write `folder/step-<step>`, and delete all but the newest `keep` that are whole; returns the path.

    good: a step, up to which checkpoints are known to be good; the newest of those is kept too. made: what the run is
    made of.

    Every process calls it, as each may hold a share of the tensors; the first one writes. Raises UserError where it
    can't be written; what was there before is then kept.
    """
    files = {f"{file_name(name, str(folder))}.safetensors": each.state_dict() for name, each in modules.items()}
    files |= {f"{name}.optimizer.safetensors": _tensors(optimizer) for name, optimizer in optimizers.items()}
    tensors = {name: gathered(each, world) for name, each in files.items()}
    target = folder / f"step-{step:07d}"
    kinds = {name: type(optimizer).__name__ for name, optimizer in optimizers.items()}

    averaged = next((each.steps for each in modules.values() if isinstance(each, RunningAverage)), None)

    def write() -> None:
        _write(target, step, tensors, kinds, made or Identity(), averaged)
        _tidy(folder, keep, good)

    world.on_main(write)
    return target


def _write(
    target: Path,
    step: int,
    files: Mapping[str, Mapping[str, Tensor]],
    optimizers: dict[str, str],
    made: Identity,
    averaged: int | None,
) -> None:
    for left in target.parent.glob(".step-*"):  # by a run that was killed while it wrote
        shutil.rmtree(left, ignore_errors=True)
    try:
        with replacing_folder(target) as aside:
            for name, tensors in files.items():
                weights.save(tensors, aside / name, {})
            State.of(aside, step, files, optimizers, made, averaged).write(aside)
            for path in (*aside.iterdir(), aside):  # or a power cut might leave the name without what it names
                settle(path)
            shutil.rmtree(target, ignore_errors=True)
        settle(target.parent)
    except (OSError, UserError) as error:
        raise UserError(
            f"the checkpoint of step {step} could not be written: {words_of(error)}; earlier ones are kept: "
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


def restore(
    folder: Path,
    modules: Mapping[str, Stateful],
    optimizers: Mapping[str, torch.optim.Optimizer],
    agree: Callable[[Path, State], None],
    world: World = SINGLE,
) -> State | None:
    """Put back the newest checkpoint that can be; its own words, or None where there is none.

    What is damaged or can't be loaded is passed over with a warning that names it. What is damaged is moved aside, so
    that it takes no sound one's place. agree: called with a checkpoint before it is loaded; what it raises is raised.

    UserError where there are sound ones and none fits.
    """
    passed: dict[Path, Exception] = {}
    found = None
    for path in reversed(steps(folder)):
        try:
            state = State.read(path)
            state.check_files(path)
        except Damaged as error:
            passed[path] = error
            continue
        agree(path, state)
        try:
            load(path, modules, optimizers)
        except (UserError, LookupError, ValueError) as error:
            passed[path] = error
            continue
        found = path, state
        break
    misfit = next((error for error in passed.values() if not isinstance(error, Damaged)), None)
    if found is None and misfit is not None:
        raise misfit
    world.on_main(lambda: _pass_over(passed, None if found is None else found[0]))
    return None if found is None else found[1]


def _pass_over(passed: Mapping[Path, Exception], taken: Path | None) -> None:
    """Tell of checkpoints that were passed over, and move aside what is damaged."""
    instead = "there is none before it that is sound" if taken is None else f"{taken.name} is taken"
    for path, error in passed.items():
        moved = ""
        if isinstance(error, Damaged):
            aside = path.with_name(ASIDE + path.name)
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            moved = f"; it is {aside.name} now, which you may delete"
        warnings.warn(f"{path} is passed over, and {instead}: {in_one_line(error)}{moved}", stacklevel=2)


def sound(folder: Path) -> bool:
    """Whether there is a checkpoint all of whose files are what was written."""
    return any(map(_sound, reversed(steps(folder))))


def _sound(path: Path) -> bool:
    try:
        State.read(path).check_files(path)
    except Damaged:
        return False
    return True


def load(path: Path, modules: Mapping[str, Stateful], optimizers: Mapping[str, torch.optim.Optimizer]) -> int:
    """Put a checkpoint's state back, each process its share; returns its step.

    A running average that it lacks begins as the weights do; one that it has and that nothing here wants is passed by.
    UserError where it is of another model or optimizer. Settings of the optimizers, such as the rate, stay those of the
    recipe.
    """
    state = State.read(path)
    files = {f"{name}.safetensors" for name in modules} | {f"{name}.optimizer.safetensors" for name in optimizers}
    if files.symmetric_difference(state.files) - {f"{AVERAGE}.safetensors"}:
        raise UserError(
            f"{path} holds {', '.join(sorted(state.files))}, this run needs {', '.join(sorted(files))}; {CURE}"
        )
    for name, kind in state.optimizers.items():
        if kind != type(optimizers[name]).__name__:
            raise UserError(f"{path} is of the optimizer {kind}, not {type(optimizers[name]).__name__}; {CURE}")
    for name, module in modules.items():
        file = str(path / f"{name}.safetensors")
        if isinstance(module, RunningAverage):
            if f"{name}.safetensors" not in state.files:
                continue
            module.steps = state.step if state.averaged is None else state.averaged
        if message := weights.difference(module, file):
            run = path.parent.parent  # as a whole: its other checkpoints and its log are needed to go on
            refuse_former(module, file, *weights.compared(module, file), run, "then go on with fit.out=converted")
            raise UserError(f"{file} does not fit here: {message}; {CURE}")
        _fill(module.state_dict(), weights.read(file))
    for average in modules.values():
        if isinstance(average, RunningAverage) and f"{AVERAGE}.safetensors" not in state.files:
            average.begin()
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
    return state.step


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
        State.read(path)
    except Damaged:
        return False
    return True
