"""All that watches a run while it trains: log, speed, observers, curves, and when to stop it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from muse_studio.errors import UserError
from muse_studio.training import checkpoint
from muse_studio.training.curves import draw_curves
from muse_studio.training.fit import Fit
from muse_studio.training.health import SPAN, Trend
from muse_studio.training.log import Log, Row
from muse_studio.training.speed import Meter

CHECKPOINTS, LOG, CURVES = "checkpoints", "log.csv", "loss.png"
"""What a run's folder holds."""


class Monitor:
    """Watches the run `name` of a `learner` in the folder `out`, from step `start` on; a context manager.

    At its end it draws the curves of the whole log, however the run ended, but for an error that is no user's.
    """

    def __init__(self, name: str, fit: Fit, learner: Any, out: Path, start: int, hook: Any) -> None:
        self.name, self.fit, self.out, self.hook = name, fit, out, hook
        self.checkpoints = out / CHECKPOINTS
        self.world = learner.world
        self.log = Log(out / LOG, start, self.world.is_main)
        factor = None if fit.overfit else fit.diverged  # near zero, a loss is soon three times what it was
        self.trend = Trend(getattr(learner, "watched", None), factor, fit.warmup)
        for row in self.log.rows:
            self.trend.follow(row)
        self.meter = Meter(fit.batch, getattr(learner, "tokens_per_record", None), self.world.device)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.world.is_main and (error is None or isinstance(error, KeyboardInterrupt | UserError)):
            draw_curves(self.log.rows, self.out / CURVES, self.name)

    def step(self) -> AbstractContextManager[None]:
        """Around each step."""
        return self.meter.step()

    def paused(self) -> AbstractContextManager[None]:
        """Around what is no part of a step, and shall not count as such."""
        return self.meter.paused()

    @property
    def good(self) -> int | None:
        """The step up to which checkpoints are known to be good; None where nothing is held against any."""
        return None if math.isinf(self.trend.factor) else self.trend.calm

    def numbers(self, done: int, reported: Mapping[str, Tensor]) -> Row:
        """What a step told, as means over the processes; UserError where the loss or the norm is not finite."""
        row = self.world.mean(reported)
        checked = (next(iter(row)), "norm")
        wrong = next((key for key in checked if not math.isfinite(row.get(key, 0.0))), None)
        if wrong is not None:
            raise UserError(
                f"{self.name}: {wrong} is {row[wrong]} at step {done}; {self._kept()}. "
                "Try a lower rate, a longer warm-up, or a smaller clip"
            )
        return {key: value for key, value in row.items() if not math.isnan(value)}

    def append(self, done: int, row: Row) -> None:
        """Log a row, and tell everyone; UserError where the loss has run away."""
        seconds = self.meter.lap()
        row = {"step": done, **row, "seconds": seconds}
        self.log.append(row)
        if self.world.is_main and self.hook is not None:
            numbers = {key: value for key, value in (row | self.meter.speed(seconds)).items() if key != "step"}
            self.hook.muse_step(
                stage=self.name,
                step=done,
                steps=self.fit.steps,
                tokens=None,
                loss=next(iter(numbers.values())),
                image=None,
                numbers=numbers,
            )
        if self.trend.follow(row):
            trend = self.trend
            raise UserError(
                f"{self.name}: {trend.key or 'loss'} runs away: at step {done} the median of the last {SPAN} logged is "
                f"{trend.median:.4g}, {trend.median / trend.lowest:.1f} times the lowest, {trend.lowest:.4g} at step "
                f"{trend.lowest_at}; {self._kept()}. Move later ones away, and try a lower rate, a longer warm-up, or "
                "a smaller clip; or raise fit.diverged"
            )

    def _kept(self) -> str:
        found = checkpoint.newest(self.checkpoints, None if self.trend.is_calm else self.trend.calm)
        return "there is no checkpoint yet" if found is None else f"{found} holds the last good weights"
