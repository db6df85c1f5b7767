"""The table of a sweep, for people (Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from muse_tasks.sweep.runs import Outcome

RECALL = (
    "R@k: the share of captions whose own real picture is among the k nearest to the drawn one, of all real pictures "
    "of its group."
)
FORWARDS = "forwards"
PASSES = (
    "Forwards: passes of the networks for a batch, both halves of guidance in one; a batch ends with its last picture."
)


@dataclass
class Row:
    """One combination: its labels by setting, and what came of it.

    pictures: file, prompt and seed of each that may stand on the sheet.
    """

    labels: dict[str, str]
    outcome: Outcome | None = None
    error: str | None = None
    pictures: list[tuple[Path, str, int]] = field(default_factory=list)

    @property
    def first(self) -> str:
        """The first setting's value."""
        return next(iter(self.labels.values()))

    @property
    def others(self) -> str:
        """The other settings and their values; empty where there is none."""
        return ", ".join(f"{name}={value}" for name, value in list(self.labels.items())[1:])


@dataclass
class Table:
    """All rows. recipe: the name of what was run."""

    recipe: str
    rows: list[Row]

    @property
    def firsts(self) -> list[str]:
        """Each value of the first setting."""
        return list(dict.fromkeys(row.first for row in self.rows))

    @property
    def others(self) -> list[str]:
        """Each combination of the other settings."""
        return list(dict.fromkeys(row.others for row in self.rows))

    @property
    def finished(self) -> list[Outcome]:
        """What was found, refused combinations left out."""
        return [row.outcome for row in self.rows if row.outcome is not None]

    @property
    def scores(self) -> list[str]:
        """The names of all scores."""
        return list(dict.fromkeys(name for outcome in self.finished for name in outcome.scores))

    @property
    def costs(self) -> list[str]:
        """The names of what a combination costs: forward passes, where they are counted, and seconds."""
        return [FORWARDS] * any(outcome.forwards is not None for outcome in self.finished) + [self.seconds]

    @property
    def seconds(self) -> str:
        """What the seconds are, as the column's name."""
        sizes = {outcome.at_once for outcome in self.finished}
        if sizes == {0}:
            return "seconds (whole run)"
        drawn = f", {sizes.pop()} at once" if len(sizes) == 1 else ""
        return f"seconds a picture (median{drawn})"

    def csv(self) -> str:
        """A line a combination, numbers with all their digits."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.rows[0].labels, *self.scores, *self.costs, "error", "machine", "run"])
        for row in self.rows:
            found = row.outcome
            numbers = [found.scores.get(name, "") if found else "" for name in self.scores]
            numbers += [("" if cost is None else cost) for cost in self._paid(found)]
            rest = [found.machine, found.folder] if found else ["", ""]
            writer.writerow([*row.labels.values(), *numbers, row.error or "", *rest])
        return text.getvalue()

    def markdown(self) -> str:
        """A table to be pasted into a text, and what its numbers are and come from."""
        heads = [*self.rows[0].labels, *self.scores, *self.costs]
        settings = len(self.rows[0].labels)
        lines = [heads, ["---"] * settings + ["---:"] * (len(heads) - settings)]
        for row in self.rows:
            if row.outcome is None:
                numbers = [f"refused: {row.error}", *[""] * (len(heads) - settings - 1)]
            else:
                scores = row.outcome.scores
                numbers = [f"{scores[name]:.3f}" if name in scores else "" for name in self.scores]
                numbers += ["" if cost is None else f"{cost:.3g}" for cost in self._paid(row.outcome)]
            lines.append([*row.labels.values(), *numbers])
        table = "\n".join(f"| {' | '.join(map(_escaped, cells))} |" for cells in lines)
        return f"{table}\n\n{self.notes()}\n"

    def _paid(self, outcome: Outcome | None) -> list[float | None]:
        """What a combination costs, cost by cost."""
        if outcome is None:
            return [None] * len(self.costs)
        return [outcome.forwards, outcome.seconds][-len(self.costs) :]

    def notes(self) -> str:
        """What was run, what the numbers mean, and on which machine."""
        drawn = any(outcome.at_once for outcome in self.finished)
        machines = list(dict.fromkeys(outcome.machine for outcome in self.finished))
        words = [
            f"Recipe `{self.recipe}`.",
            RECALL if any(name.startswith("R@") for name in self.scores) else "",
            PASSES if FORWARDS in self.costs else "",
            "Seconds: sampling and decoding alone." if drawn else "",
            f"Machine: {'; '.join(machines)}.",
            "" if len(machines) == 1 else "The seconds of one machine say nothing of another's.",
        ]
        return " ".join(filter(None, words))


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
