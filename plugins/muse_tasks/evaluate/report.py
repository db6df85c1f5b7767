"""What an evaluation found: as one table, and as JSON with every number's meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from rich.table import Table

from muse_studio.images.pixels import MOST_DB
from muse_tasks.evaluate.metrics import DRAWN, RECONSTRUCTED
from muse_tasks.evaluate.output import to_text
from muse_tasks.evaluate.real_pictures import REFINED
from muse_tasks.evaluate.records import SPLITS
from muse_tasks.evaluate.shown import report as shown
from muse_tasks.evaluate.shown.recognition import DRAWN as BY_CAPTION

DEFINITIONS = {
    "seen": "pairs of picture and caption that training saw, or may have seen",
    "held-out": "pairs that training never saw",
    "n": "how many pictures of each split were drawn at random, by the seed, and measured",
    "psnr_db": "of the real picture and the same through the tokenizer, both of 8 bits a channel: "
    f"10 log10(255^2 / mean squared error) for each picture, then the mean; no error counts as {MOST_DB:g} dB",
    "codebook_usage": "share of the codes that occur in the tokens of the measured pictures of both splits",
    "perplexity": "exp of the entropy of the codes' frequencies in those tokens",
    "accuracy": "share of masked tokens whose likeliest code is the right one; by the share of tokens masked, places "
    "chosen at random by the seed; real pictures with their captions, without guidance",
    "cross_entropy": "mean of -ln p(right code) over those masked tokens, in nats",
    "refinement": "of a stage that refines the tokens of the stage before: real pictures, their real smaller tokens, "
    "their captions",
    "refined": "PSNR of the real picture and the one that the stage draws from the smaller one's real tokens",
    "enlarged": "PSNR of the real picture and the smaller one through its tokenizer, enlarged by bicubic interpolation",
    "enlarged_real": "the same of the real smaller picture, which no token has touched",
    "right": "cross-entropy as above, given the smaller tokens of the same picture",
    "another": "given those of another picture, under the right caption",
    "none": "given none that is known",
    "retrieval": "a caption's generated picture against all real pictures of that caption's group, both splits "
    "together, by Euclidean distance of RGB colours average-pooled to 16 x 16",
    "R@1": "share of captions whose own real picture is nearest; a tie counts as a miss",
    "R@5": "share of captions whose own real picture is among the five nearest; ties count against it",
    "generated": "the query is the picture drawn from the caption by the stages up to this one",
    "reconstructed": "the query is the real picture through the stage's tokenizer, the ceiling of a generated one",
    "forwards": "how many forward passes a stage's networks did for a batch, by the mean; the two halves of guidance "
    "are one, and a batch is done when the last of its pictures is",
    "chance": "what a guess would reach: the mean of k / (pictures in the group)",
}

MEASURED = {
    DRAWN: "by the names that the recipe gives them: the last stage's drawn pictures, each held against the real one "
    "of its caption, scaled to the stage's size; each split alone",
    RECONSTRUCTED: "the same of real pictures through the last stage's tokenizer",
}
"""Added where there are such metrics."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a measure's name, the format of its numbers, one a split, and that of both splits."""

    name: str
    form: str
    splits: Mapping[str, float | None] = field(default_factory=dict)
    both: float | None = None

    def cells(self) -> list[str]:
        """The texts of its cells, "-" where there is no number."""
        numbers = [*(self.splits.get(split) for split in SPLITS), self.both]
        return [self.name, *("-" if number is None else format(number, self.form) for number in numbers)]


@dataclass
class Evaluation:
    """The numbers (`metrics`, as in metrics.json), the contact sheet, and where both were written.

    seconds: of sampling and decoding, a picture, batch by batch. meanings: of the metrics' numbers, by their names.
    """

    metrics: dict[str, Any]
    sheet: Image.Image = field(repr=False)
    seconds: list[float] = field(default_factory=list, repr=False)
    meanings: dict[str, str] = field(default_factory=dict, repr=False)
    paths: list[Path] = field(default_factory=list)

    def to_json(self) -> str:
        """The metrics and their definitions; the same evaluation gives the same text."""
        return json.dumps({**self.metrics, "definitions": self._definitions()}, indent=2, ensure_ascii=False) + "\n"

    def _definitions(self) -> dict[str, str]:
        added = {which: message for which, message in MEASURED.items() if which in self.metrics}
        return DEFINITIONS | added | shown.definitions(self.metrics) | self.meanings

    def scores(self) -> dict[str, float]:
        """How good the drawn pictures are, in few numbers: the last stage's retrieval and recognition, and metrics."""
        last = list(self.metrics["retrieval"].values())[-1]
        scores = {f"{k}, {split}": found["generated"][k] for k in ("R@1", "R@5") for split, found in last.items()}
        for splits in list(self.metrics.get(shown.RECOGNITION, {}).values())[-1:]:
            for split, found in splits.items():
                scores |= {f"{k}, {split}": share for k, share in found[BY_CAPTION].items()}
        for name, number, splits in self._measured(DRAWN):
            scores |= {f"{name}: {number}, {split}": value for split, value in splits.items()}
        return scores

    @property
    def forwards(self) -> float | None:
        """Forward passes for a batch, all stages together; None where one's networks can't be counted."""
        found = self.metrics["forwards"]
        return sum(found.values()) if found.keys() == self.metrics["retrieval"].keys() else None

    def summary(self) -> str:
        """A table with a column a split, those of what people see, and the files."""
        return to_text([self._table(), *shown.tables(self.metrics)], self.paths)

    def _measured(self, which: str) -> Iterator[tuple[str, str, dict[str, float]]]:
        """Of each metric its name, and of each of its numbers the name and the value by split."""
        for name, splits in self.metrics.get(which, {}).items():
            for number in next(iter(splits.values())):
                yield name, number, {split: found[number] for split, found in splits.items()}

    def _table(self) -> Table:
        table = Table(title=f"seed {self.metrics['seed']}")
        table.add_column("measure")
        for title in ("seen", "held out", "both"):
            table.add_column(title, justify="right")
        for section in filter(None, self._sections()):
            table.add_section()
            for row in section:
                table.add_row(*row.cells())
        return table

    def _sections(self) -> Iterator[list[Row]]:
        """The table's rows, section by section."""
        metrics = self.metrics
        counts = metrics["n"]
        yield [Row("pictures measured", "d", counts, sum(counts.values()))]
        for stage, found in metrics["tokenizer"].items():
            yield [
                Row(f"{stage}: tokenizer PSNR, dB", ".2f", found["psnr_db"]),
                Row(f"{stage}: codebook in use", ".1%", both=found["codebook_usage"]),
                Row(f"{stage}: codebook perplexity", ".1f", both=found["perplexity"]),
            ]
        for which in (RECONSTRUCTED, DRAWN):
            title = which.removesuffix("_metrics")
            yield [Row(f"{title}, {name}: {number}", ".4g", found) for name, number, found in self._measured(which)]
        for stage, splits in metrics["masked_tokens"].items():
            yield _masked_tokens(stage, splits)
        for stage, splits in metrics["refinement"].items():
            yield _refinement(stage, splits)
        yield [
            Row(f"{stage}: forward passes a batch", ".1f", both=found) for stage, found in metrics["forwards"].items()
        ]
        for stage, splits in metrics["retrieval"].items():
            for query in _of_first(splits):
                form = ".4f" if query == "chance" else ".3f"
                yield [Row(f"{stage}: retrieval {k}, {query}", form, _each(splits, query, k)) for k in ("R@1", "R@5")]


def _masked_tokens(stage: str, splits: dict[str, Any]) -> list[Row]:
    return [
        Row(f"{stage}: {measure.replace('_', '-')}, {float(ratio):.0%} masked", ".3f", _each(splits, ratio, measure))
        for ratio in _of_first(splits)
        for measure in ("accuracy", "cross_entropy")
    ]


def _refinement(stage: str, splits: dict[str, Any]) -> list[Row]:
    psnr = [
        Row(f"{stage}: PSNR {what.replace('_', ', ')}, dB", ".2f", _each(splits, "psnr_db", what)) for what in REFINED
    ]
    losses = [
        Row(
            f"{stage}: cross-entropy, {float(ratio):.0%} masked, {which} low tokens",
            ".3f",
            _each(splits, "cross_entropy", ratio, which),
        )
        for ratio, given in _of_first(splits)["cross_entropy"].items()
        for which in given
    ]
    return psnr + losses


def _of_first(splits: dict[str, Any]) -> dict[str, Any]:
    """What was found of the first split; it names what was found of each."""
    return next(iter(splits.values()))


def _each(splits: dict[str, Any], *keys: str) -> dict[str, float | None]:
    """One number by split, found under these keys; None where its last key is missing."""
    *path, last = keys
    found = {}
    for split, each in splits.items():
        for key in path:
            each = each[key]
        found[split] = each.get(last)
    return found
