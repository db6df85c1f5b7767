"""What people see, in tables: each figure of drawn pictures beside that of real ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from muse_tasks.evaluate.records import SPLITS
from muse_tasks.evaluate.shown.objects import CHROMA, DIFFERS, EDGE, LEAST, PART, SIDE, TINTED
from muse_tasks.evaluate.shown.prompted import COMPOSITION, FREE_WORDS
from muse_tasks.evaluate.shown.recognition import DRAWN, REAL, REFINED, TOKENIZER, TOP

RECOGNITION = "recognition"
SHOWN = {
    REAL: "real picture",
    TOKENIZER: "through the tokenizer",
    REFINED: "drawn from the real smaller tokens",
    DRAWN: "drawn from the caption",
}

DEFINITIONS = {
    RECOGNITION: "by stage, split, and what was shown: how often the recogniser names the thing of the caption. real: "
    "the real picture at the stage's size; tokenizer: the same through the stage's tokenizer; refined: what the stage "
    "draws, given the real tokens of the stage before; drawn: from the caption, by the stages up to this one",
    "top-1": "share of pictures whose own thing is the likeliest of all that the recogniser knows; a tie, and a thing "
    "that it does not know, count as a miss",
    "top-5": "share of pictures whose own thing is among its five likeliest; likewise",
    COMPOSITION: "share of n canvases of each kind on which all that the caption says is so, real ones, which is how "
    "often the rule itself is right, and ones drawn by all stages; pictures are looked at in "
    f"{SIDE} pixels a side. A pixel is of a thing where a channel differs by {DIFFERS} or more of 255 levels from the "
    f"median colour of a frame of {EDGE} pixels; pieces that hang together by pixels' sides are things, from "
    f"{PART:.0%} of the largest one's pixels on, if that has {LEAST:.1%} of the canvas. count: there are as many as "
    "asked for. colour: in each thing, or in the one thing, most pixels whose channels are "
    f"{CHROMA} levels or more apart are nearest in hue to the asked colour; {TINTED:.0%} of its pixels must be so. "
    "position: there are two, farther apart along the asked direction than across it, and the recogniser, shown each "
    "by itself on white and asked for the two names alone, finds them the right way round. count and colour: both",
    FREE_WORDS: "of n phrases that are no captions of the data set: how often the recogniser, shown what all stages "
    "draw for the phrase, has something that the phrase means as its likeliest thing, or among its five likeliest "
    "before all that it does not mean; real: shown a real picture of such a thing",
}
"""What metrics.json says of each, where it was measured."""


def definitions(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Those of what was measured."""
    shares = {"top-1", "top-5"} if {RECOGNITION, FREE_WORDS} & metrics.keys() else set()
    return {name: text for name, text in DEFINITIONS.items() if name in metrics or name in shares}


def tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    """A table of each that was measured."""
    if RECOGNITION in metrics:
        yield _recognition(metrics[RECOGNITION])
    if COMPOSITION in metrics:
        found = metrics[COMPOSITION]
        yield _beside(f"composition, {found['n']} canvases of each kind", "right in", found)
    if FREE_WORDS in metrics:
        found = metrics[FREE_WORDS]
        yield _beside(f"free words, {found['n']} phrases", "recognised", found)


def _recognition(stages: Mapping[str, Any]) -> Table:
    table = Table(title="recognised, " + " / ".join(f"top-{k}" for k in TOP))
    table.add_column("what is shown")
    for title in ("seen", "held out"):
        table.add_column(title, justify="right")
    for stage, splits in stages.items():
        table.add_section()
        for what, title in SHOWN.items():
            cells = [_shares(splits.get(split, {}).get(what)) for split in SPLITS]
            if any(cell != "-" for cell in cells):
                table.add_row(f"{stage}: {title}", *cells)
    return table


def _shares(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else " / ".join(format(found[f"top-{k}"], ".3f") for k in TOP)


def _beside(title: str, measure: str, found: Mapping[str, Any]) -> Table:
    table = Table(title=title)
    table.add_column(measure)
    for column in ("real", "drawn"):
        table.add_column(column, justify="right")
    for name in found[REAL]:
        table.add_row(name, *(format(found[what][name], ".3f") for what in (REAL, DRAWN)))
    return table
