"""The plot of a sweep: quality against what it costs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from muse_studio.runtime.files import replacing
from muse_tasks.sweep.table import FORWARDS, Table

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
MARKERS = "osD^vPX*"
"""Told apart by people who see colours otherwise too."""
DASHES = ("-", "--", ":", "-.")
"""Where there are more lines than colours, they begin again with the next of these."""

GRID = "#e4e4e4"

Cost = Literal["seconds", "forwards"]
"""What quality is held against."""


def style(line: int) -> tuple[str, str, str]:
    """The colour, marker and dashes of a line by its number: no two of the first 32 are alike."""
    turn, place = divmod(line, len(COLOURS))
    return COLOURS[place], MARKERS[place], DASHES[turn % len(DASHES)]


def draw_plot(table: Table, path: Path, against: Cost = "seconds") -> None:
    """Write a PNG: a panel a score, in it a line for each value of the first setting, its points named by the others.

    A combination that was refused has no point, nor one whose cost is not known.
    """
    # Imported here, as it takes a second; a Figure of its own touches no state that a notebook's plots may have.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(2, len(table.scores))
    down = math.ceil(len(table.scores) / across)
    figure = Figure(figsize=(5 * across, 0.8 + 3.1 * down), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, sharex=True, squeeze=False).flatten()
    for panel, score in zip(panels, table.scores, strict=False):
        for number, first in enumerate(table.firsts):
            rows = [row for row in table.rows if row.first == first]
            found = [
                (cost, row.outcome.scores[score], row)
                for row in rows
                if row.outcome and score in row.outcome.scores and (cost := getattr(row.outcome, against)) is not None
            ]
            found.sort(key=lambda each: each[0])
            points = [(cost, value) for cost, value, _ in found]
            if not points:
                continue
            colour, marker, dashes = style(number)
            panel.plot(*zip(*points, strict=True), label=first, color=colour, marker=marker, linestyle=dashes)
            for (*_, row), point in zip(found, points, strict=True):
                message = ", ".join(list(row.labels.values())[1:])
                note = panel.annotate(message, point, (4, 4), textcoords="offset points", fontsize=8, color=colour)
                note.set_in_layout(False)  # or the panels would shrink until the longest one fits
        panel.set_ylabel(score)
        panel.set_xlabel(table.seconds if against == "seconds" else FORWARDS)
        panel.tick_params(labelbottom=True)
        panel.set_xlim(0, 1.15 * max(getattr(outcome, against) or 0 for outcome in table.finished) or None)
        panel.margins(y=0.12)
        panel.grid(color=GRID)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(table.scores) :]:
        panel.remove()
    names = list(table.rows[0].labels)
    title = names[0] if len(names) == 1 else f"{names[0]} (at the points: {', '.join(names[1:])})"
    lines = panels[0].get_legend_handles_labels()
    figure.legend(*lines, title=title, loc="outside lower center", ncols=min(4, len(lines[1])), frameon=False)
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
