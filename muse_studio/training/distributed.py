"""The processes that train one model together, one an accelerator, as torchrun starts them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

from muse_studio.errors import Followed, UserError
from muse_studio.runtime import device, launch

LET_GO = 0.5
"""Seconds that gloo's threads have for it; they need less than a thousandth, on a machine that is not too busy."""


@dataclass(frozen=True)
class World:
    """This process is `rank` of `size` and computes on `device`; one process alone is a world too."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and speaks for all."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """Which of a step's `batch` records are this process's; in the order of ranks they are all of them."""
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def check_batch(self, batch: int, parts: int, records: int) -> None:
        """UserError where each process can't have `parts` equal parts of the batch, or not a record of its own."""
        if 0 < records < self.size:
            raise UserError(f"the data set has {records} records for {self.size} processes; start fewer of them")
        least = self.size * parts
        if batch % least:
            raise UserError(
                f"fit.batch is {batch}, which {self.size} processes with fit.accumulate {parts} don't divide; "
                f"give a multiple of {least}"
            )

    def mean(self, numbers: Mapping[str, Tensor]) -> dict[str, float]:
        """Scalars of each process to their means; all processes must give the same names."""
        values = torch.tensor([float(value) for value in numbers.values()], dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return dict(zip(numbers, values.tolist(), strict=True))

    def any(self, here: bool) -> bool:
        """Whether it is so in any of the processes."""
        if self.size == 1:
            return here
        flag = torch.tensor(int(here))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def differ(self, number: int) -> bool:
        """Whether the processes give different numbers."""
        return self.any(number != self.mean({"number": torch.tensor(number)})["number"])

    def on_main(self, work: Callable[[], None]) -> None:
        """Has the first process work while the others wait; where it fails there, it fails in all."""
        failed: Exception | None = None
        if self.is_main:
            try:
                work()
            except Exception as error:  # it is raised below, once the others know
                failed = error
        if self.any(failed is not None):
            raise failed or Followed("the first process failed, and says why")


SINGLE = World(torch.device("cpu"))
"""A process by itself, where nothing says otherwise."""


@contextmanager
def join(name: str, patience: float) -> Iterator[World]:
    """The world that this process was started in, by torchrun or alone.

    name: a device's, as `choose_device` takes it; of several processes each has the accelerator of its own index.
    patience: seconds after which a process that waits for another one gives up.
    A process group that is there already is used, and left as it is.
    Where torchrun has ended, its processes are asked to end too, as by SIGTERM.
    """
    rank, size = launch.processes()
    if launch.by_torchrun():
        _follow_torchrun()
    if size == 1:
        yield World(device.choose_device(name))
        return
    on = device.of_process(name, int(os.environ["LOCAL_RANK"]))
    if dist.is_initialized():
        yield World(on, rank, size)
        return
    backend = "gloo" if on.type == "cpu" else f"cpu:gloo,{on.type}:{dist.get_default_backend_for_device(on)}"
    dist.init_process_group(backend, timeout=timedelta(seconds=patience))
    try:
        yield World(on, rank, size)
    finally:
        # gloo's threads need Python's lock to let go of the last tensors. Whoever frees the group, be it at exit, holds
        # that lock and waits for the threads, for ever (seen with torch 2.13): so they get it first.
        time.sleep(LET_GO)
    # Only at a good end: after a failure the others may be waiting for this one, and torchrun ends them.
    dist.destroy_process_group()


@cache
def _follow_torchrun() -> None:
    """Ask this process to end once torchrun has, killed as it may be: it gave each of its processes a session.

    They would go on with nobody to end them, and keep the run's folder from whoever starts it again.
    """

    def watch() -> None:
        while os.getppid() == launch.PARENT:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
