"""What an evaluation of edits found: as one table, and as JSON with every number's meaning."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from rich.table import Table

from muse_tasks.evaluate.edit_measures import COARSE, DIFFERS, FIELDS
from muse_tasks.evaluate.output import to_text

DEFINITIONS = {
    "refilled": "holes in real pictures, drawn anew by the task under `inpaint`: a rectangle of half the height and "
    "half the width, a quarter of the picture, at a place drawn by the seed",
    "split": "held-out: pictures that training never saw; seen, where the data set says of none that it is held out",
    "own": "drawn under the picture's own caption",
    "other": "drawn under the caption of another picture of the split, of any group, drawn by the seed",
    "tokenizer": "not drawn at all, but what the last stage's tokenizer makes of the picture: what drawing can reach",
    "pixels": "mean squared error of RGB in 0..1 in the hole, then the mean over the pictures",
    "colours": f"the same of the mean colours of {FIELDS} x {FIELDS} fields of the hole: what is where, without detail",
    "ratio": "own / other; 1 where the caption makes no difference",
    "own_nearer": "share of pictures in which the own caption's hole is nearer than the other caption's",
    "edited": "composed pictures, changed in one attribute by the task under `mask_free` from the caption of the "
    "picture after; the part to change is where the exact pictures before and after differ by more than "
    f"{DIFFERS} of 255 levels in some channel, the rest is all else",
    "away": "whether the edits were led away from the caption of the picture before (a negative prompt)",
    "n": "how many pictures or cases were measured",
    "moved": "share of cases whose result is, in the part to change, nearer to the picture after than to the one "
    f"before; a colour or background by its mean colour, an object by the mean colours of {COARSE} x {COARSE} fields "
    "of the picture, each weighed by its share in the part; squared distances of RGB",
    "found": "share of cases whose result is there nearer to the picture after than to the one before and to each of "
    "the case's others: the same picture with five other colours, objects or backgrounds",
    "changed": "share of cases whose wanted attribute changed: of objects `found`, of all else `moved`",
    "kept": "share of cases of which, in the rest, the picture before of no other case is nearer to the result than "
    "the own one (mean squared error of pixels)",
    "both": "share of cases both changed and kept",
}


@dataclass
class EditEvaluation:
    """The numbers (`metrics`, as in metrics.json), the contact sheet, and where both were written."""

    metrics: dict[str, Any]
    sheet: Image.Image = field(repr=False)
    paths: list[Path] = field(default_factory=list)

    def to_json(self) -> str:
        """The metrics and their definitions; the same evaluation gives the same text."""
        return json.dumps({**self.metrics, "definitions": DEFINITIONS}, indent=2, ensure_ascii=False) + "\n"

    def summary(self) -> str:
        """A table of each measure, and the files."""
        kinds = {"refilled": _refilled, "edited": _edited}
        return to_text([table(self.metrics[name]) for name, table in kinds.items() if name in self.metrics], self.paths)


def _refilled(found: dict[str, Any]) -> Table:
    table = Table(title=f"a quarter refilled, {found['n']} pictures, {found['split']}")
    for title in ("error in the hole", "own caption", "another", "own / another", "own nearer", "tokenizer"):
        table.add_column(title, justify="left" if title.startswith("error") else "right")
    for measure, of in found["errors"].items():
        numbers = [format(of[which], ".4f") for which in ("own", "other")]
        shares = [format(of["ratio"], ".3f"), format(of["own_nearer"], ".3f")]
        table.add_row(measure, *numbers, *shares, format(of["tokenizer"], ".4f"))
    return table


def _edited(found: dict[str, Any]) -> Table:
    table = Table(title="edited by a prompt alone" + (", away from the one before" if found["away"] else ""))
    table.add_column("attribute")
    for title in next(iter(found["cases"].values())):
        table.add_column(title, justify="right")
    for kind, shares in found["cases"].items():
        if kind == "all":
            table.add_section()
        table.add_row(kind, *(format(value, "d" if name == "n" else ".3f") for name, value in shares.items()))
    return table
