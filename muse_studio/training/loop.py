"""The training loop that every training task shares: data order, rates, average, checkpoints, logs, interrupts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from muse_studio.contracts import Dataset
from muse_studio.errors import UserError
from muse_studio.runtime import memory, weights
from muse_studio.runtime.device import finish_step, keep_freed_memory
from muse_studio.training import checkpoint, mirror
from muse_studio.training.distributed import World
from muse_studio.training.ema import RunningAverage
from muse_studio.training.fit import Fit
from muse_studio.training.health import verdict
from muse_studio.training.log import Row
from muse_studio.training.monitor import CHECKPOINTS, Monitor
from muse_studio.training.order import NO_RECORD, Order, key_of
from muse_studio.training.stopping import ignore_signals, stopping

__all__ = ["Fit", "History", "Learner", "first", "train"]


class Learner(Protocol):
    """What the loop drives: `model` is trained and shipped; a checkpoint holds `modules` and `optimizers`, by name.

    One whose model predicts tokens may say how many of a record by an attribute `tokens_per_record`, and one whose loss
    is no measure of success by `watched` which of its numbers must not run away.
    """

    world: World
    model: nn.Module
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Learn from this process's rows of a batch at step `step`, counted from 0.

        Returns scalars to log, the first of them the loss, whose means over the processes are the batch's. A loss or a
        `norm` that is not finite stops the run; any other number that is NaN has nothing to say at this step. Noise
        from torch's global generator is a function of the step too.
        """


@dataclass
class History:
    """What a run was: the trained weights' file, the steps, the logged rows, and what else there is to say."""

    weights: Path
    steps: int
    rows: list[Row]
    note: str = ""

    def summary(self) -> str:
        """What the command line prints."""
        last = self.rows[-1] if self.rows else {}
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in last.items() if key not in ("step", "seconds"))
        return "\n".join([f"{self.weights}\n{self.steps} steps: {numbers}", *([self.note] if self.note else [])])


def train(
    fit: Fit,
    learner: Learner,
    dataset: Dataset,
    hook: Any,
    name: str,
    settings: Mapping[str, Any],
    collate: Callable | None = None,
    frozen: Mapping[str, Tensor] | None = None,
    after: Callable[[int], None] | None = None,
) -> History:
    """Run `learner` over `dataset` to step `fit.steps`, from the newest checkpoint in `fit.out` where there is one.

    Writes `<name>.safetensors` into `fit.out`, with `settings` (the recipe) in its metadata: the running average of the
    weights where `fit.ema` asks for one, else the last ones; `frozen` is shipped beside them, as it is.
    Ctrl-C or SIGTERM finishes the step, writes a checkpoint and raises KeyboardInterrupt. A number that is not finite
    stops the run with a UserError, and so does a loss that runs away; the checkpoint before it is kept.
    after: called when a step is done, with how many are, while the model is what would be shipped; it must leave that
    as it is.
    Every process of the learner's team calls it; the first one writes and speaks.
    """
    world, out = learner.world, fit.folder()
    world.check_batch(fit.batch, fit.accumulate, len(dataset))
    keep_freed_memory()
    world.on_main(lambda: _prepare(fit, out))
    modules: dict[str, checkpoint.Stateful] = dict(learner.modules)
    average, found = None, checkpoint.newest(out / CHECKPOINTS)
    if fit.ema is not None:
        modules["average"] = average = RunningAverage(learner.model, fit.ema, begun=found is not None)
    start = 0 if found is None else checkpoint.load(found, modules, learner.optimizers)
    if world.differ(start):
        raise UserError(f"processes find other checkpoints in {out}; fit.out must be a folder that all of them share")
    stop = max(start, fit.steps)
    _check_memory(learner)
    order = Order(len(dataset), fit.batch, fit.seed, start, stop, world.rows(fit.batch), repeated=fit.overfit)
    loader: DataLoader[Any] = DataLoader(
        dataset,  # type: ignore[arg-type]  # it uses no more of one than contracts.Dataset promises
        batch_sampler=order,
        num_workers=fit.workers,
        collate_fn=collate,
        worker_init_fn=ignore_signals,
        timeout=fit.patience if fit.workers else 0,
    )
    monitor = Monitor(name, fit, learner, out, start, hook)
    with stopping(world) as stop_asked, monitor:
        for step, batch in enumerate(loader, start):
            torch.manual_seed(key_of(fit.seed, step, "global") >> 1)
            _set_rates(learner.optimizers, fit.rate(step))
            with monitor.step():
                numbers = learner.step(batch, step)
                finish_step(world.device)
            if average is not None:
                average.update()
            done, asked = step + 1, stop_asked()
            logs = done % fit.log_every == 0 or done == fit.steps
            saves = done % fit.checkpoint_every == 0 or done == fit.steps or asked
            if logs or saves:
                row = monitor.numbers(done, numbers)
            if logs:
                monitor.append(done, row)
            if after is not None:
                with monitor.paused(), nullcontext() if average is None else average.applied():
                    after(done)
            if saves:
                checkpoint.save(out / CHECKPOINTS, done, modules, learner.optimizers, fit.keep, world, monitor.good)
                if fit.upload is not None and world.is_main:
                    mirror.send(out, fit.upload, fit.keep)
            if asked:
                asked.end(name, done)
    path = out / f"{name}.safetensors"
    state = checkpoint.gathered((learner.model if average is None else average).state_dict(), world)
    dtype = getattr(torch, fit.dtype)
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    world.on_main(lambda: weights.save(state | dict(frozen or {}), path, settings))
    if fit.upload is not None and world.is_main:
        mirror.send(out, fit.upload, fit.keep, path)
    rows = monitor.log.rows
    return History(path, stop, rows, verdict(rows) if fit.overfit else "")


def _check_memory(learner: Learner) -> None:
    """UserError where there is no room for a gradient of each weight that is trained, this process's share of them."""
    trained = [each for each in learner.model.parameters() if each.requires_grad and each.grad is None]
    shares = [each.to_local() if hasattr(each, "to_local") else each for each in trained]
    need = sum(each.numel() * each.element_size() for each in shares)
    cure = "choose smaller sizes, another device, or parallel: {use: fsdp} over several"
    memory.check(need, "beside the weights, their gradients take", cure, learner.world.device)


def _prepare(fit: Fit, out: Path) -> None:
    """Leave in `out` the checkpoints that the run shall go on from, if any."""
    if fit.resume == "never":
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    elif fit.upload is not None and checkpoint.newest(out / CHECKPOINTS) is None:
        mirror.fetch(out, fit.upload)


def first(dataset: Any) -> dict[str, Any]:
    """The first record, to try a model out on; UserError where there is none."""
    if len(dataset) == 0:
        raise UserError(NO_RECORD)
    return dataset[0]


def _set_rates(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
