"""The training loop that every training task shares: data order, rates, average, checkpoints, logs, interrupts."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from muse_studio import checkpoint, weights
from muse_studio.device import keep_freed_memory
from muse_studio.errors import UserError
from muse_studio.fit import Fit
from muse_studio.order import NO_RECORD, Order, key_of
from muse_studio.runlog import Log, Row, watch

__all__ = ["Fit", "History", "Learner", "first", "train"]


class Learner(Protocol):
    """What the loop drives: `model` is trained and shipped; a checkpoint holds `modules` and `optimizers`, by name."""

    model: nn.Module
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Learn from one batch at step `step`, counted from 0; returns scalars to log, the first of them the loss.

        One that is not finite stops the run. Noise from torch's global generator is a function of the step too.
        """


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
    frozen: Mapping[str, Tensor] | None = None,
) -> History:
    """Run `learner` over `dataset` to step `fit.steps`, from the newest checkpoint in `fit.out` where there is one.

    Writes `<name>.safetensors` into `fit.out`, with `settings` (the recipe) in its metadata: the running average of the
    weights where `fit.ema` asks for one, else the last ones; `frozen` is shipped beside them, as it is.
    Ctrl-C finishes the step, writes a checkpoint and raises KeyboardInterrupt. A number that is not finite stops the
    run with a UserError; the checkpoint before it is kept.
    """
    out = fit.folder()
    keep_freed_memory()
    checkpoints = out / "checkpoints"
    modules, average = dict(learner.modules), None
    if fit.ema is not None:
        modules["average"] = average = AveragedModel(learner.model, multi_avg_fn=get_ema_multi_avg_fn(fit.ema))
    found = checkpoint.newest(checkpoints)
    start = 0 if found is None else checkpoint.load(found, modules, learner.optimizers)
    log = Log(out / "log.csv", start)
    order = Order(len(dataset), fit.batch, fit.seed, start, max(start, fit.steps))
    loader = DataLoader(
        dataset, batch_sampler=order, num_workers=fit.workers, collate_fn=collate, worker_init_fn=_undisturbed
    )
    began, last = time.perf_counter(), start
    with _interrupts() as interrupted, watch(name, start, fit.steps) as show:
        for step, batch in enumerate(loader, start):
            torch.manual_seed(key_of(fit.seed, step, "global") >> 1)
            _set_rates(learner.optimizers, fit.rate(step))
            numbers = learner.step(batch, step)
            if average is not None:
                average.update_parameters(learner.model)
            done, stop = step + 1, interrupted.is_set()
            logs = done % fit.log_every == 0 or done == fit.steps
            saves = done % fit.checkpoint_every == 0 or done == fit.steps or stop
            if logs or saves:
                row = {key: float(value) for key, value in numbers.items()}
                _check_finite(name, done, row, checkpoints)
            if logs:
                now = time.perf_counter()
                log.append({"step": done, **row, "seconds": (now - began) / (done - last)})
                began, last = now, done
                show(log.rows[-1])
                loss = next(iter(row.values()))
                hook.muse_step(stage=name, step=done, steps=fit.steps, tokens=None, loss=loss, image=None)
            if saves:
                checkpoint.save(checkpoints, done, modules, learner.optimizers, fit.keep)
            if stop:
                print(f"{name}: stopped at step {done}; the same command goes on from there", file=sys.stderr)
                raise KeyboardInterrupt
    best = learner.model if average is None else average.module
    path = out / f"{name}.safetensors"
    dtype = getattr(torch, fit.dtype)
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in best.state_dict().items()}
    weights.save(state | dict(frozen or {}), path, settings)
    return History(path, max(start, fit.steps), log.rows)


def first(dataset: Any) -> dict[str, Any]:
    """The first record, to try a model out on; UserError where there is none."""
    if len(dataset) == 0:
        raise UserError(NO_RECORD)
    return dataset[0]


def _set_rates(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def _check_finite(name: str, done: int, row: Row, checkpoints: Path) -> None:
    wrong = next((key for key, value in row.items() if not math.isfinite(value)), None)
    if wrong is not None:
        found = checkpoint.newest(checkpoints)
        kept = "there is no checkpoint yet" if found is None else f"{found} holds the last good weights"
        raise UserError(
            f"{name}: {wrong} is {row[wrong]} at step {done}; {kept}. "
            "Try a lower rate, a longer warm-up, or a smaller clip"
        )


def _undisturbed(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the loader's keep reading, so that the step can be finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
