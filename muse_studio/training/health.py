"""Whether a run is well: a loss that runs away, and a batch that should have been learned by heart."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

from muse_studio.training.log import Row

SPAN = 5
"""Logged numbers that a median is of, so that one bad batch says nothing."""

SPARED = 10
"""Rows at the start of a run that never stop it."""

NEAR_ZERO = 10
"""The lowest median counts as no lower than the first one divided by this: of next to nothing all is many times."""


class Trend:
    """Follows one number of the log, row by row.

    It has run away where the median of its last 5 rows is more than `factor` times the lowest such median so far; never
    in the first `warmup` steps or the first 10 rows. A lowest below a tenth of the first median counts as that tenth;
    where it is not above 0, there is nothing to compare with.

    key: the number; None takes a row's first one, the loss. factor: None is never.

    `calm` is the step of the last row at which nothing spoke for a runaway yet: neither that row nor the median was
    above sqrt(factor) times the lowest, half of the way on a scale of ratios. What was saved until then is good.
    `is_calm` says whether that is the last row of all.
    """

    def __init__(self, key: str | None, factor: float | None, warmup: int) -> None:
        self.key, self.factor, self.warmup = key, math.inf if factor is None else factor, warmup
        self.calm: int | None = None
        self.is_calm = True
        self.lowest, self.lowest_at, self.median = math.inf, 0, math.nan
        self._first = math.nan
        self._recent: deque[float] = deque(maxlen=SPAN)
        self._rows = 0

    @property
    def good(self) -> int | None:
        """The step up to which checkpoints are known to be good; None where nothing is held against any."""
        return None if math.isinf(self.factor) else self.calm

    def follow(self, row: Row) -> bool:
        """Take in the next row; whether the number has run away with it."""
        key = self.key or next(name for name in row if name != "step")
        if key not in row:
            return False
        self._rows += 1
        self._recent.append(row[key])
        if len(self._recent) == SPAN:
            self.median = median(self._recent)
            if math.isnan(self._first):
                self._first = self.median
            if self.median < self.lowest:
                self.lowest, self.lowest_at = self.median, int(row["step"])
        compares = self._rows > SPARED and self.lowest > 0
        low = max(self.lowest, self._first / NEAR_ZERO)
        self.is_calm = not compares or max(self.median, row[key]) <= math.sqrt(self.factor) * low
        if self.is_calm:
            self.calm = int(row["step"])
        return compares and row["step"] > self.warmup and self.median > self.factor * low


LEARNED = 0.1
"""The loss below which a batch counts as learned by heart."""


def verdict(rows: Sequence[Row]) -> str:
    """What the losses of an overfitted batch say, by the median of the last 5 that were logged."""
    losses = [next(value for key, value in row.items() if key != "step") for row in rows[-SPAN:]]
    if not losses:
        return "overfit: no step was logged; train for more steps than the run has behind it"
    last = median(losses)
    if last < LEARNED:
        return f"overfit: the loss came to {last:.2g}, near zero: model, data and optimizer work together"
    return (
        f"overfit: the loss stays at {last:.2g}, and should come below {LEARNED}. Where it still falls, give more "
        "steps or a higher rate; where it stands still, the text does not reach the model, two records of the batch "
        "have one caption, or the same picture gives other tokens at each step"
    )
