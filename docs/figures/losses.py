"""Draws docs/pictures/losses.png, the curves of the embedded model's training: python docs/figures/losses.py."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from muse_observers.curves import SMOOTH, moving_mean

DOCS = Path(__file__).parents[1]


class Curve(NamedTuple):
    """One panel: its title, which number of which logs, one after the other, and what knowing nothing gives."""

    title: str
    number: str
    logs: tuple[str, ...]
    blind: float | None


CURVES = (
    Curve("tokenizer: mean error of pixels", "pixels", ("emoji-tokenizer",), None),
    Curve("base transformer: loss", "loss", ("emoji-base", "emoji-base-2"), 8.32),
    Curve(
        "super-resolution transformer: loss", "loss", ("emoji-superres", "emoji-superres-2", "emoji-superres-3"), 8.32
    ),
)


def read(log: str, number: str) -> tuple[list[float], list[float]]:
    """Steps and values of one number of a log."""
    with (DOCS / "training" / f"{log}.csv").open(encoding="utf-8", newline="") as file:
        rows = [(float(row["step"]), float(row[number])) for row in csv.DictReader(file) if row[number]]
    return [step for step, _ in rows], [value for _, value in rows]


def draw(path: Path) -> None:
    """All panels side by side; a further run stands behind the one before, in another colour."""
    figure = Figure((11, 3.4), layout="constrained")
    for panel, curve in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
        begin = 0.0
        for log, colour in zip(curve.logs, ("#1f4e8c", "#c0392b", "#2e8b57"), strict=False):
            steps, values = read(log, curve.number)
            shifted = [begin + step for step in steps]
            smooth = moving_mean(values, len(values) // SMOOTH)
            panel.plot(shifted, values, color=colour, alpha=0.3, linewidth=0.8)
            panel.plot(shifted, smooth, color=colour, linewidth=1.8)
            panel.annotate(
                f"{smooth[-1]:.3g}", (shifted[-1], smooth[-1]), (0, 6), textcoords="offset points", ha="right"
            )
            begin = shifted[-1]
        if curve.blind is None:
            panel.set_yscale("log")
        else:
            panel.axhline(curve.blind, color="#888888", linewidth=0.8, linestyle="--")
            panel.annotate(
                "ln 4,096: a blind guess", (begin, curve.blind), (0, -11), textcoords="offset points", ha="right"
            )
        panel.set_title(curve.title, loc="left", fontsize=10)
        panel.set_xlabel("step")
        panel.grid(color="#e4e4e4")
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    draw(DOCS / "pictures" / "losses.png")
