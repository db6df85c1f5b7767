"""Averages a run's checkpoints, once it has ended, into one file of weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from muse_studio.errors import UserError, words_of
from muse_studio.registry.events import progress
from muse_studio.runtime import weights
from muse_studio.runtime.files import open_folder, path_of
from muse_studio.training import checkpoint
from muse_studio.training.fit import FOLDER

BESIDE = ("average", "discriminator")
"""Modules that a checkpoint holds beside the one that was trained to be shipped."""

LEAVE_OUT = "move that checkpoint away, or list the others as checkpoints"


@dataclass
class Averaged:
    """What was averaged: the file that was written, and those that went into it, the oldest first."""

    weights: Path
    sources: list[Path]
    decay: float

    def summary(self) -> str:
        """What the command line prints."""
        if len(self.sources) == 1:
            return f"{self.weights}\n1 checkpoint, {self.sources[0]}: its own weights; raise fit.keep to have more"
        oldest = self.decay ** (len(self.sources) - 1)
        span = f"{len(self.sources)} checkpoints, {self.sources[0]} to {self.sources[-1]}"
        return f"{self.weights}\n{span}; at decay {self.decay:g} the oldest counts {oldest:.2%}"


@dataclass
class Average:
    """An exponential moving average over a series of checkpoints (Muse, section 3: one each 5000 steps, decay 0.7).

    With the weights w_0, w_1, ... of the checkpoints, the oldest first, it is

        average_0 = w_0;  average_k = decay * average_{k-1} + (1 - decay) * w_k

    so the k-th from the end counts (1 - decay) * decay^k, and the oldest what is left, decay^(n - 1): 20 checkpoints
    leave it 0.1% at decay 0.7. How many steps lie between two of them does not matter. `fit.ema` is the other one: it
    averages after each step, while the run goes on.

    Computed in float32, one tensor of one checkpoint at a time, so that it takes the memory of one set of float32
    weights. What is no floating-point number, such as a count, is the newest checkpoint's.

    checkpoints: a run's folder, as its fit.out names it; or addresses of safetensors files, the oldest first.
    out: the file to write, .safetensors; it replaces what is there.
    module: which module of a run's checkpoints, such as transformer or tokenizer; by default the one that was trained.
    dtype: of the file.
    """

    checkpoints: str | list[str]
    out: str
    decay: float = 0.7
    module: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}; it lies in 0..1 without 1, and 0 takes the newest alone")
        if not self.checkpoints:
            raise ValueError("checkpoints is empty; give a run's folder, or a list of safetensors files")
        if self.module is not None and isinstance(self.checkpoints, list):
            raise ValueError("module chooses among the files of a run's folder; leave it out of a list of files")
        if self.module == "average":
            raise ValueError("module is 'average', the running average of fit.ema; name the module that was trained")
        if not self.out.endswith(".safetensors"):
            raise ValueError(f"out is {self.out!r}; name a file that ends in .safetensors")

    def __call__(self, hook: Any = None) -> Averaged:
        """Write the average. UserError, before anything is averaged, where files are missing, broken or unlike."""
        out = path_of(self.out)
        open_folder(out.parent, "out")
        files = self._files()
        if out.resolve() in [file.resolve() for file in files]:
            raise UserError(f"out is {out}, one of the checkpoints; give another file")
        metadata = _check(files)
        average = self._narrowed(self._average(files))
        note = {
            "average of": f"{len(files)} checkpoints, {_named(files[0])} to {_named(files[-1])}",
            "decay": self.decay,
        }
        settings = metadata.get(weights.SETTINGS, "{}")  # a run's checkpoints say nothing: {}
        kept = {} if settings == "{}" else {weights.SETTINGS: settings}
        weights.save(average, out, note, muse_average=json.dumps(note), **kept)
        return Averaged(out, files, self.decay)

    def _files(self) -> list[Path]:
        if isinstance(self.checkpoints, list):
            return [weights.local(address) for address in self.checkpoints]
        folder = path_of(self.checkpoints) / FOLDER
        steps = checkpoint.steps(folder)
        if not steps:
            raise UserError(
                f"no checkpoints in {folder}; give as checkpoints a run's folder, as its fit.out names it, "
                "or a list of safetensors files"
            )
        module = self.module or _trained(steps[-1])
        for step in steps:
            if module not in _modules(step):
                raise UserError(
                    f"{step} holds no {module}, but {', '.join(_modules(step)) or 'nothing'}; "
                    f"set module to another one, or {LEAVE_OUT}"
                )
        return [step / f"{module}.safetensors" for step in steps]

    def _average(self, files: list[Path]) -> dict[str, Tensor]:
        average: dict[str, Tensor] = {}
        for file in progress(files, f"averaging {len(files)} checkpoints"):
            for name, tensor in _tensors(file):
                if name in average and tensor.is_floating_point():
                    average[name].lerp_(tensor, 1 - self.decay)
                else:
                    average[name] = tensor.clone()  # what is read is the file itself, mapped
        return average

    def _narrowed(self, average: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, tensor in average.items():
            if tensor.is_floating_point():
                average[name] = tensor.to(getattr(torch, self.dtype))
                if not average[name].isfinite().all():
                    raise UserError(f"{name} has numbers too large for {self.dtype}; set dtype to bfloat16 or float32")
        return average


def _named(file: Path) -> str:
    """A checkpoint's file as metadata tell it, by its step where it has one; where it lay is nobody's business."""
    step = file.parent.name
    return f"{step}/{file.name}" if checkpoint.in_order([step]) else file.name


def _modules(step: Path) -> list[str]:
    """The modules of one checkpoint, its optimizers' states left out."""
    names = sorted(file.name.removesuffix(".safetensors") for file in step.glob("*.safetensors"))
    return [name for name in names if not name.endswith(".optimizer")]


def _trained(step: Path) -> str:
    names = [name for name in _modules(step) if name not in BESIDE]
    if len(names) != 1:
        raise UserError(f"{step} holds {', '.join(_modules(step)) or 'nothing'}; say by module which one to average")
    return names[0]


def _check(files: list[Path]) -> dict[str, str]:
    """UserError where a file is not whole, or not of the first one's model; the newest one's metadata."""
    shapes, metadata = weights.header(files[0])
    for file in files[1:]:
        found, metadata = weights.header(file)
        if found != shapes:
            name = next(name for name in [*shapes, *found] if shapes.get(name) != found.get(name))
            raise UserError(
                f"{file} is of another model than {files[0]}: {name} is {found.get(name, 'missing')} in the one, "
                f"{shapes.get(name, 'missing')} in the other; average checkpoints of one run"
            )
    return metadata


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Each tensor by its name, floating-point numbers widened to float32; UserError where one can't be averaged."""
    try:
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                tensor = opened.get_tensor(name)
                tensor = tensor.float() if tensor.is_floating_point() else tensor
                if not tensor.isfinite().all():
                    raise UserError(f"{name} in {file} has numbers that are not finite; {LEAVE_OUT}")
                yield name, tensor
    except SafetensorError as error:  # what the header alone does not show, such as a type that there is not
        raise UserError(f"{file} is damaged ({words_of(error)}); {LEAVE_OUT}") from error
