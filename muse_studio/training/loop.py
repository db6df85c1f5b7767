"""The training loop that every training task shares: data order, rates, average, checkpoints, logs, interrupts."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muse_studio.contracts import Dataset
from muse_studio.errors import UserError
from muse_studio.runtime import memory, weights
from muse_studio.runtime.device import finish_step, keep_freed_memory
from muse_studio.runtime.files import file_name
from muse_studio.runtime.locking import FolderLock
from muse_studio.training import checkpoint, mirror
from muse_studio.training.ema import AVERAGE, RunningAverage
from muse_studio.training.fit import FOLDER, Fit
from muse_studio.training.health import verdict
from muse_studio.training.learner import Learner
from muse_studio.training.loading import batches
from muse_studio.training.log import Row
from muse_studio.training.monitor import Monitor
from muse_studio.training.order import NO_RECORD, Order, key_of
from muse_studio.training.state import State, identity, told
from muse_studio.training.stopping import Signals, stopping

__all__ = ["Fit", "History", "Learner", "Output", "Run", "first"]

PLACES = ("out", "upload", "device", "workers")
"""Settings of a run that change no weight."""


@dataclass
class Output:
    """The file of trained weights, `<name>.safetensors` in `fit.out`.

    name: the run's, too. settings: the recipe, for the file's metadata. frozen: tensors that are shipped beside the
    trained ones, as they are.
    """

    name: str
    settings: Mapping[str, Any]
    frozen: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        file_name(self.name, "the trained weights")

    def told(self) -> dict[str, Any]:
        """The recipe as the file tells it: without where this run wrote to and what it ran on."""
        told = {key: each for key, each in self.settings.items() if key != "cache"}
        if isinstance(fit := told.get("fit"), Mapping):
            told["fit"] = {key: each for key, each in fit.items() if key not in PLACES}
        return weights.portable(told)


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


class Run:
    """One run of a learner over a data set, from the newest checkpoint in `fit.out`, where there is one.

    Every process of the learner's world makes one and trains; the first one writes and reports.

    after: called when a step is done, with how many are, while the model is what would be shipped; it must leave that
    as it is.

    Making one raises UserError where the folder, the batch or the checkpoint there does not fit, and where another run
    has the folder; it is this one's until `train` has ended.
    """

    def __init__(
        self,
        fit: Fit,
        learner: Learner,
        dataset: Dataset,
        hook: Any,
        output: Output,
        after: Callable[[int], None] | None = None,
    ) -> None:
        self.fit, self.learner, self.dataset, self.output, self.after = fit, learner, dataset, output, after
        self.world, self.out = learner.world, fit.folder(output.name)
        self.checkpoints = self.out / FOLDER
        self.world.check_batch(fit.batch, fit.accumulate, len(dataset))
        keep_freed_memory()
        self.modules: dict[str, checkpoint.Stateful] = dict(learner.modules)
        self.average = None if fit.ema is None else RunningAverage(learner.model, fit.ema)
        if self.average is not None:
            self.modules[AVERAGE] = self.average
        self.made = identity(fit, output.settings, dataset)
        self.lock: FolderLock | None = None
        self.world.on_main(self._lock)
        try:
            self.start = self.resume()
            _check_memory(learner)
            self.monitor = Monitor(output.name, fit, learner, self.out, self.start, hook)
        except BaseException:
            self._release()
            raise

    def _lock(self) -> None:
        """Have the folder for this run alone; its first process holds it for all."""
        self.lock = FolderLock(self.out, "fit.out")

    def _release(self) -> None:
        if self.lock is not None:
            self.lock.release()

    def resume(self) -> int:
        """Put back the state of the newest checkpoint, and say so; returns its step, 0 where there is none.

        UserError where it is of a run that was made of other settings or data, unless `fit.resume` takes that.
        """
        self.world.on_main(self._prepare)
        found = checkpoint.restore(self.checkpoints, self.modules, self.learner.optimizers, self._agree, self.world)
        start = 0 if found is None else found.step
        if self.world.differ(start):
            raise UserError(
                f"processes find other checkpoints in {self.out}; fit.out must be a folder that all of them share"
            )
        if found is not None:
            self._go_on(found)
        return start

    def _agree(self, path: Path, state: State) -> None:
        """UserError where a checkpoint's run was made of anything else, unless that is to be taken."""
        differences = {} if state.identity is None else state.identity.differences(self.made)
        if differences and self.fit.resume != "changed":
            raise UserError(
                f"{path} is of a run that was made otherwise: {told(differences)}; give another folder as fit.out, or "
                "fit.resume=changed to go on with what is new and have that recorded, or fit.resume=never to begin anew"
            )

    def _go_on(self, state: State) -> None:
        """Take over what a checkpoint knows of its run, and say from where that goes on."""
        before = state.identity
        known = before is not None and bool(before.settings)
        differences = before.differences(self.made) if before is not None else {}
        self.made.changes = list(before.changes) if before is not None else []
        if differences:
            self.made.changes.append({"step": state.step, "settings": differences})
        notes = [f"changed: {told(differences)}"] * bool(differences)
        notes += ["the checkpoint does not say what its run was made of, so that can't be compared"] * (not known)
        if self.average is not None and self.average.steps == 0:
            notes.append("fit.ema begins its average here, from the weights as they are")
        notes += ["no step is left to train; raise fit.steps for more"] * (state.step >= self.fit.steps)
        if self.world.is_main:
            said = f"{self.output.name}: goes on from step {state.step}"
            print("; ".join([said, *notes]), file=sys.stderr)

    def train(self) -> History:
        """Train to step `fit.steps`, and write the weights: the running average where `fit.ema` asks for one.

        Ctrl-C or SIGTERM finishes the step, or the wait for its batch, writes a checkpoint and raises
        KeyboardInterrupt. A number that is not finite stops the run with a UserError, and so does a loss that runs
        away; the checkpoint before it is kept.
        """
        numbers: Mapping[str, Tensor] = {}
        try:
            with stopping(self.world) as signals, closing(self._batches()) as feed:
                for step in range(self.start, self._stop):
                    batch = signals.wait(feed)
                    self._heed(signals, step, numbers)
                    numbers = self.step(batch, step)
                    self._follow(step + 1, numbers)
                self._heed(signals, self._stop, numbers)
            return self.finish()
        finally:
            self._release()

    def step(self, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Have the learner learn from a batch at step `step`, counted from 0; returns its numbers."""
        torch.manual_seed(key_of(self.fit.seed, step, "global") >> 1)
        _set_rates(self.learner.optimizers, self.fit.rate(step))
        with self.monitor.meter.step():
            numbers = self.learner.step(batch, step)
            finish_step(self.world.device)
        if self.average is not None:
            self.average.update()
        return numbers

    def save(self, done: int) -> None:
        """Write the checkpoint of `done` steps, and copy it to `fit.upload`."""
        good = self.monitor.trend.good
        what = (self.modules, self.learner.optimizers)
        checkpoint.save(self.checkpoints, done, *what, self.fit.keep, self.world, good, self.made)
        if self.fit.upload is not None and self.world.is_main:
            mirror.send(self.out, self.fit.upload, self.fit.keep)

    def finish(self) -> History:
        """Write the trained weights, and copy them to `fit.upload`."""
        path = self.out / f"{self.output.name}.safetensors"
        state = checkpoint.gathered((self.average or self.learner.model).state_dict(), self.world)
        dtype = getattr(torch, self.fit.dtype)
        state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
        changes = {"muse_changes": json.dumps(self.made.changes)} if self.made.changes else {}
        self.world.on_main(lambda: weights.save(state | dict(self.output.frozen), path, self.output.told(), **changes))
        if self.fit.upload is not None and self.world.is_main:
            mirror.send(self.out, self.fit.upload, self.fit.keep, path)
        rows = self.monitor.log.rows
        notes = [verdict(rows) if self.fit.overfit else "", "" if self.average is None else self.average.lag]
        return History(path, self._stop, rows, "\n".join(filter(None, notes)))

    @property
    def _stop(self) -> int:
        """The step that the run ends at."""
        return max(self.start, self.fit.steps)

    def _prepare(self) -> None:
        """Leave in the folder the checkpoints that the run shall go on from, if any."""
        if self.fit.resume == "never":
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        elif self.fit.upload is not None and not checkpoint.sound(self.checkpoints):
            mirror.fetch(self.out, self.fit.upload)

    def _batches(self) -> Generator[Any]:
        """This process's rows of the batch of each step that is left."""
        fit, length = self.fit, len(self.dataset)
        rows = self.world.rows(fit.batch)
        order = Order(length, fit.batch, fit.seed, self.start, self._stop, rows, repeated=fit.overfit)
        return batches(self.dataset, order, self.learner.collate, fit.workers, fit.patience)

    def _heed(self, signals: Signals, done: int, numbers: Mapping[str, Tensor]) -> None:
        """End the run where it is to stop, after a checkpoint of the `done` steps, whose last one gave `numbers`."""
        if (stop := signals.ask()) is None:
            return
        if done > self.start and not self._saves(done):
            self.monitor.numbers(done, numbers)  # what is not finite must become no checkpoint
            self.save(done)
        stop.end(self.output.name, done)

    def _saves(self, done: int) -> bool:
        """Whether a checkpoint is due once `done` steps are."""
        return done % self.fit.checkpoint_every == 0 or done == self.fit.steps

    def _follow(self, done: int, numbers: Mapping[str, Tensor]) -> None:
        """Log, call `after` and save, each where it is due once `done` steps are."""
        fit = self.fit
        logs, saves = done % fit.log_every == 0 or done == fit.steps, self._saves(done)
        if logs or saves:  # what is not finite must become no checkpoint
            row = self.monitor.numbers(done, numbers)
        if logs:
            self.monitor.append(done, row)
        if self.after is not None:
            with self.monitor.meter.paused(), nullcontext() if self.average is None else self.average.applied():
                self.after(done)
        if saves:
            self.save(done)


def _check_memory(learner: Learner) -> None:
    """UserError where there is no room for a gradient of each weight that is trained, this process's share of them."""
    trained = [each for each in learner.model.parameters() if each.requires_grad and each.grad is None]
    shares = [each.to_local() if hasattr(each, "to_local") else each for each in trained]
    need = sum(each.numel() * each.element_size() for each in shares)
    cure = "choose smaller sizes, another device, or parallel: {use: fsdp} over several"
    memory.check(need, "beside the weights, their gradients take", cure, learner.world.device)


def first(dataset: Any) -> dict[str, Any]:
    """The first record, to try a model out on; UserError where there is none."""
    if len(dataset) == 0:
        raise UserError(NO_RECORD)
    return dataset[0]


def _set_rates(optimizers: Mapping[str, torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
