"""How a source fits its table, piece by piece: what `dry_run` prints, and what a refusal says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 5
"""Names of each kind of misfit that are written out."""


@dataclass
class Fit:
    """How one piece fits.

    matched: tensors of the source that became ours. made: our tensors. dropped: names left out by the table.
    misfits: names or sentences, by what is wrong with them. notes: what a user should know of how it was read.
    """

    piece: str
    source: str
    matched: int = 0
    made: int = 0
    dropped: list[str] = field(default_factory=list)
    misfits: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.misfits.values())

    def lines(self) -> list[str]:
        """For people: one line, and one more for each kind of misfit."""
        dropped = f", {len(self.dropped)} dropped" if self.dropped else ""
        lines = [f"{self.piece}: {self.matched} tensors of {self.source} become {self.made}{dropped}"]
        lines += [f"  {note}" for note in self.notes]
        for wrong, names in self.misfits.items():
            if names:
                more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"  {len(names)} {wrong}: {'; '.join(names[:SHOWN])}{more}")
        return lines


@dataclass
class Report:
    """How all pieces fit, and the files that were written: the first recipe is the model, none in a dry run."""

    source: str
    fits: list[Fit]
    recipes: list[Path] = field(default_factory=list)
    folder: Path | None = None
    """What was written, where no recipe belongs to it that draws."""

    @property
    def whole(self) -> bool:
        """Whether every piece fits."""
        return all(fit.fits for fit in self.fits)

    def summary(self) -> str:
        """What the command line prints."""
        lines = [line for fit in self.fits for line in fit.lines()]
        if self.folder is not None:
            lines.append(f"wrote {self.folder}")
        elif not self.recipes:
            lines.append(
                "all of it fits; nothing was written" if self.whole else "it does not fit and would be refused"
            )
        else:
            lines.append("wrote " + ", ".join(map(str, self.recipes)))
            lines.append(f"muse run {self.recipes[-1]}")
        return "\n".join(lines)
