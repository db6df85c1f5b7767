"""A run's curves as one picture: the loss, and, where they were logged, accuracy and signal-to-noise ratio."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.files import replacing
from muse_studio.training.log import Logged, Row, log_of, read

FILE = "loss.png"
"""In a run's folder, the picture of its curves."""

PANELS = {"loss": "loss", "accuracy": "accuracy of hidden tokens", "psnr": "PSNR, dB"}
"""The numbers that are drawn, a panel each, and what stands at the axis."""

SMOOTH = 40
"""The moving mean reaches over one in so many of all rows to either side."""

RAW, BOLD, GRID = "#9db7d5", "#1f4e8c", "#e4e4e4"


class Curves:
    """Draws the curves of a training's whole log beside it, once the run has ended."""

    def __init__(self) -> None:
        self._stage: str | None = None

    def follow(self, stage: str) -> None:
        """The run logged a row; only the first of several processes hears of it."""
        self._stage = stage

    def failed(self, task: object, error: BaseException) -> None:
        """As `finished`, where the user stopped the run or can mend what did; after other errors nothing is drawn."""
        if isinstance(error, KeyboardInterrupt | UserError):
            self.finished(task)
        self._stage = None

    def finished(self, task: object) -> None:
        """Where the run of `task` logged anything, its curves; a disk that refuses is a warning."""
        stage, self._stage = self._stage, None
        if stage is None or not isinstance(task, Logged):
            return
        log = log_of(task)
        try:
            draw_curves(read(log), log.with_name(FILE), stage)
        except (OSError, UserError) as error:
            warnings.warn(f"no curves were drawn: {words_of(error)}", stacklevel=2)


def draw_curves(rows: Sequence[Row], path: Path, title: str, *, log_steps: bool = False) -> None:
    """Write the curves of a log's rows to a PNG: each number as it was logged, thin, and its moving mean, bold.

    log_steps: a logarithmic axis of steps, which shows the beginning of a long run. Without rows nothing is written.
    """
    # Imported here, as it takes a second; a Figure of its own touches no state that a notebook's plots may have.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [key for key in PANELS if any(key in row for row in rows)]
    if not shown:
        return
    figure = Figure(figsize=(8, 0.7 + 2.9 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for panel, key in zip(panels, shown, strict=True):
        points = [(row["step"], row[key]) for row in rows if key in row]
        steps, values = [step for step, _ in points], [value for _, value in points]
        smooth = moving_mean(values, len(values) // SMOOTH)
        few = len(values) < 2 * SMOOTH
        panel.plot(steps, values, color=BOLD if few else RAW, linewidth=1.6 if few else 0.8, marker="." * (few))
        if not few:
            panel.plot(steps, smooth, color=BOLD, linewidth=1.8)
        panel.set_ylabel(PANELS[key])
        panel.annotate(f"{smooth[-1]:.3g}", (steps[-1], smooth[-1]), (5, 0), textcoords="offset points", va="center")
        panel.grid(color=GRID)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_title(title, loc="left")
    panels[-1].set_xlabel("step")
    if log_steps:
        panels[-1].set_xscale("log")
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=110)


def moving_mean(values: Sequence[float], reach: int) -> list[float]:
    """At each place, the mean of the values at most `reach` places away."""
    windows = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    return [sum(window) / len(window) for window in windows]
