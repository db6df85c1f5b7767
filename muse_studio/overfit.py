"""The first check of a training set-up: one batch, again and again, which any sound one learns by heart."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from muse_studio.runaway import SPAN
from muse_studio.runlog import Row

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
