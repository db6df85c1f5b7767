"""How fast a run goes: seconds a step, pictures and tokens a second, and the share of what the device could compute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from muse_studio.peaks import name_of, peak_of
from muse_studio.runlog import Row


class Meter:
    """Times the steps of a run on `device`.

    batch: records a step. tokens: what the model predicts of one record, None where that is no tokens.

    The operations of a step are counted at the first one alone, and only where the device's peak is known: on a CPU the
    counter takes a fused attention for nothing. That step is computed operation by operation, even where the run
    compiles. What a checkpointed layer computes twice counts twice; what a run takes up later, such as a
    discriminator, does not count.
    """

    def __init__(self, batch: int, tokens: int | None, device: torch.device) -> None:
        self.batch, self.tokens = batch, tokens
        self.peak = peak_of(name_of(device))
        self.operations: int | None = None
        self._began, self._steps = time.perf_counter(), 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around each step."""
        self._steps += 1
        if self.peak is None or self.operations is not None:
            yield
            return
        with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
            yield
        self.operations = counter.get_total_flops()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no part of a step."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._began += time.perf_counter() - before

    def lap(self) -> float:
        """Seconds a step since the last call; one step at least must have been taken."""
        now = time.perf_counter()
        seconds = (now - self._began) / self._steps
        self._began, self._steps = now, 0
        return seconds

    def speed(self, seconds: float) -> Row:
        """At so many seconds a step: pictures/s, tokens/s where there are tokens, mfu where the peak is known.

        mfu: model FLOPs utilization (Chowdhery et al., 2022): operations a second, of the device's bfloat16 peak.
        """
        row: Row = {"pictures/s": self.batch / seconds}
        if self.tokens is not None:
            row["tokens/s"] = self.batch * self.tokens / seconds
        if self.peak is not None and self.operations:
            row["mfu"] = self.operations / seconds / self.peak
        return row
