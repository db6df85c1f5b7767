"""All that watches a run while it trains: log, speed, observers, and when to stop it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from muse_studio.errors import UserError
from muse_studio.training import checkpoint
from muse_studio.training.fit import FOLDER, Fit
from muse_studio.training.health import SPAN, Trend
from muse_studio.training.learner import Learner
from muse_studio.training.log import LOG, Log, Row
from muse_studio.training.speed import Meter


class Monitor:
    """Watches the run `name` of a `learner` in the folder `out`, from step `start` on.

    log: its rows. trend: whether a number runs away. meter: its speed.
    """

    def __init__(self, name: str, fit: Fit, learner: Learner, out: Path, start: int, hook: Any) -> None:
        self.name, self.fit, self.hook = name, fit, hook
        self.checkpoints = out / FOLDER
        self.world = learner.world
        self.log = Log(out / LOG, start, self.world.is_main)
        factor = None if fit.overfit else fit.diverged  # near zero, a loss is soon three times what it was
        self.trend = Trend(learner.watched, factor, fit.warmup)
        for row in self.log.rows:
            self.trend.follow(row)
        self.meter = Meter(fit.batch, learner.tokens_per_record, self.world.device)

    def numbers(self, done: int, reported: Mapping[str, Tensor]) -> Row:
        """What a step reported, as means over the processes; UserError where the loss or the norm is not finite."""
        row = self.world.mean(reported)
        checked = (next(iter(row)), "norm")
        wrong = next((key for key in checked if not math.isfinite(row.get(key, 0.0))), None)
        if wrong is not None:
            raise UserError(
                f"{self.name}: {wrong} is {row[wrong]} at step {done}; {self._kept()}. "
                "Try a lower rate, a longer warm-up, or a smaller clip, with fit.resume=changed"
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
                "a smaller clip, with fit.resume=changed; or raise fit.diverged"
            )

    def _kept(self) -> str:
        found = checkpoint.newest(self.checkpoints, None if self.trend.is_calm else self.trend.calm)
        return "there is no checkpoint yet" if found is None else f"{found} holds the last good weights"
