"""The training loop that every training task shares: steps, data order, rates, checkpoints, logs, interrupts."""

from __future__ import annotations

import csv
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from muse_studio import checkpoint, weights
from muse_studio.device import keep_freed_memory
from muse_studio.errors import UserError
from muse_studio.order import Order, key_of


@dataclass
class Fit:
    """How a run trains: the table `fit` of a training recipe.

    out: the run's folder: checkpoints, log.csv, the trained weights. A run found there goes on where it stopped.
    dtype: of the trained weights' file; halves are half as large, and as good to draw with.
    steps, batch: optimizer steps, records each. seed: of the data's order and of all noise.
    warmup, decay, floor: steps of linear warm-up; then the rate follows a cosine to `floor` times its peak, or stays.
    clip: the gradient norm is cut to this. ema: decay of the running average of the weights, which is then shipped.
    precision: bfloat16 computes under autocast; weights stay float32.
    checkpoint_every, keep, log_every: in steps, and how many checkpoints stay. workers: processes that read records.
    """

    out: str
    steps: int
    batch: int
    seed: int = 0
    warmup: int = 0
    decay: Literal["cosine", "constant"] = "cosine"
    floor: float = 0.0
    clip: float | None = 1.0
    ema: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_every: int = 500
    keep: int = 2
    log_every: int = 20
    workers: int = 0
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: str = "auto"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.checkpoint_every, self.keep, self.log_every) < 1:
            raise ValueError("steps, batch, checkpoint_every, keep and log_every must be 1 or more")
        if self.warmup < 0 or self.workers < 0 or self.seed < 0:
            raise ValueError("warmup, workers and seed must be 0 or more")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is {self.ema}; a decay lies between 0 and 1, such as 0.999")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip is {self.clip}; give a gradient norm above 0, or null for none")

    def rate(self, step: int) -> float:
        """The factor of the learning rate at a step, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.decay == "constant":
            return 1.0
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2

    def generator(self, step: int, purpose: str) -> torch.Generator:
        """Host noise that is a function of (seed, step, purpose): equal on every device, and nothing to save."""
        return torch.Generator().manual_seed(key_of(self.seed, step, purpose) >> 1)

    def autocast(self, on: torch.device) -> torch.autocast:
        """The context that a forward pass runs in."""
        return torch.autocast(on.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        """Backward, clip, step; returns the gradient norm before clipping."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self.clip if self.clip is not None else math.inf)
        optimizer.step()
        return norm


class Learner(Protocol):
    """What the loop drives: `model` is trained and shipped; a checkpoint holds `modules` and `optimizers`, by name."""

    model: nn.Module
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Learn from one batch at step `step`, counted from 0; returns scalars to log, the first of them the loss."""


@dataclass
class History:
    """What a run was: the trained weights' file, the steps, the logged rows."""

    weights: Path
    steps: int
    rows: list[dict[str, float]]

    def summary(self) -> str:
        """What the command line prints."""
        last = self.rows[-1] if self.rows else {}
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in last.items() if key not in ("step", "seconds"))
        return f"{self.weights}\n{self.steps} steps: {numbers}"


def train(
    fit: Fit,
    learner: Learner,
    dataset: Dataset,
    hook: Any,
    name: str,
    settings: Mapping[str, Any],
    collate: Callable | None = None,
) -> History:
    """Run `learner` over `dataset` to step `fit.steps`, from the newest checkpoint in `fit.out` where there is one.

    Writes `<name>.safetensors` into `fit.out`, with `settings` (the recipe) in its metadata: the running average of the
    weights where `fit.ema` asks for one, else the last ones.
    Ctrl-C finishes the step, writes a checkpoint and raises KeyboardInterrupt. A loss that is no number stops the run
    with a UserError; the checkpoint before it is kept.
    """
    out = Path(fit.out)
    prepare(out)
    keep_freed_memory()
    checkpoints, log = out / "checkpoints", out / "log.csv"
    found = checkpoint.newest(checkpoints)
    modules, average = dict(learner.modules), None
    if fit.ema is not None:
        modules["average"] = average = AveragedModel(learner.model, multi_avg_fn=get_ema_multi_avg_fn(fit.ema))
    start = 0 if found is None else checkpoint.load(found, modules, learner.optimizers)
    rows = _read(log, start)
    order = Order(len(dataset), fit.batch, fit.seed, start, max(start, fit.steps))
    loader = DataLoader(dataset, batch_sampler=order, num_workers=fit.workers, collate_fn=collate)
    began, last = time.perf_counter(), start
    with _interrupts() as interrupted, _watch(name, start, fit.steps) as watch:
        for step, batch in enumerate(loader, start):
            for optimizer in learner.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = group.setdefault("initial_lr", group["lr"]) * fit.rate(step)
            numbers = learner.step(batch, step)
            if average is not None:
                average.update_parameters(learner.model)
            done = step + 1
            if done % fit.log_every == 0 or done == fit.steps:
                row = {key: float(value) for key, value in numbers.items()}
                now = time.perf_counter()
                row = {"step": done, **row, "seconds": (now - began) / (done - last)}
                began, last = now, done
                loss = next(iter(numbers))
                if not math.isfinite(row[loss]):
                    raise UserError(
                        f"{name}: the loss is {row[loss]} at step {done}; {checkpoints} holds the last good weights. "
                        "Try a lower rate, a longer warm-up, or a smaller clip"
                    )
                rows.append(row)
                _append(log, row)
                watch(done, row)
                hook.muse_step(stage=name, step=done, steps=fit.steps, tokens=None, loss=row[loss], image=None)
            if done % fit.checkpoint_every == 0 or done == fit.steps or interrupted.is_set():
                checkpoint.save(checkpoints, done, modules, learner.optimizers, fit.keep)
            if interrupted.is_set():
                print(f"{name}: stopped at step {done}; the same command goes on from there", file=sys.stderr)
                raise KeyboardInterrupt
    best = learner.model if average is None else average.module
    path = out / f"{name}.safetensors"
    dtype = getattr(torch, fit.dtype)
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in best.state_dict().items()}
    weights.save(state, path, settings)
    return History(path, max(start, fit.steps), rows)


def prepare(out: Path) -> None:
    """Make a run's folder, or say why it can't be written; before anything costly."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{out} can't be written: {error.strerror}; give another folder as fit.out") from error


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may hear signals
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def heard(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, heard)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _watch(name: str, start: int, steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Shows rows: a bar on a terminal, lines elsewhere."""
    console = Console(stderr=True)

    def text(row: dict[str, float]) -> str:
        return "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "step")

    if not console.is_terminal:
        yield lambda done, row: print(f"{name} {done}/{steps}  {text(row)}", file=sys.stderr, flush=True)
        return
    with Progress(*Progress.get_default_columns(), "{task.fields[numbers]}", console=console) as bar:
        task = bar.add_task(name, total=steps, completed=start, numbers="")
        yield lambda done, row: bar.update(task, completed=done, numbers=text(row))


def _read(log: Path, start: int) -> list[dict[str, float]]:
    """The rows up to the step that a run goes on from; later ones are dropped from the file too."""
    if not log.exists():
        return []
    with log.open(newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    log.unlink()
    rows = [row for row in rows if row["step"] <= start]
    for row in rows:
        _append(log, row)
    return rows


def _append(log: Path, row: dict[str, float]) -> None:
    new = not log.exists()
    with log.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
