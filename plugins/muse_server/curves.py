"""The curve of a mask schedule, as the page draws it beside the setting."""

from __future__ import annotations

from typing import Any

import torch

from muse_server import settings
from muse_studio.sampling.cascade import Cascade
from muse_studio.sampling.variants import changed

POINTS = 33
"""From the progress 0 to 1, both among them."""


def points(model: Cascade, schedule: Any) -> list[float]:
    """The share of tokens that a schedule leaves open, at even distances; Refusal where the table is none.

    schedule: a client's table, laid over the first stage's own as an action's settings are.
    """
    first = next(iter(model.stages))
    stages = {first: {"schedule": schedule}}
    settings.check(model, stages)
    with torch.inference_mode():
        return [float(each) for each in changed(model, stages).stages[first].schedule(torch.linspace(0, 1, POINTS))]
