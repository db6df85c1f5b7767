"""Reports sampling steps to the observers and to a progress bar."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from muse_studio.registry.events import ProgressBar
from muse_studio.sampling.cascade import Watch, report_step


def report_to(hook: Any, bar: ProgressBar, label: str) -> Watch:
    """What sampling calls after each step: the observers of `hook` hear of it, and the bar goes on by one."""

    def watch(stage: str, step: int, steps: int, tokens: Tensor) -> None:
        report_step(hook, stage, step, steps, tokens)
        bar.advance(f"{label}, {stage}")

    return watch
