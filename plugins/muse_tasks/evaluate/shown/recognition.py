"""Whether a picture is recognised: the place of its own thing among all that a judge can name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from muse_studio.contracts import Metric
from muse_studio.errors import UserError
from muse_tasks.evaluate.records import Record
from muse_tasks.evaluate.retrieval import recall

TOP = (1, 5)
REAL, TOKENIZER, REFINED, DRAWN = "real", "tokenizer", "refined", "drawn"
"""What is shown to the judge: the real picture; the same through the tokenizer; what the stage draws, given the real
tokens of the stage before; and what is drawn from the caption alone."""

UNKNOWN = 2**31
"""The rank of a thing that the judge does not know: among the first of none."""


@runtime_checkable
class Judge(Protocol):
    """A metric that can name what a picture shows, such as `recognition`."""

    @property
    def things(self) -> Sequence[str]:
        """The K things that it knows."""

    def scores(self, images: Tensor) -> Tensor:
        """uint8[B, 3, H, W] to float[B, K]: the higher, the more a picture shows that thing."""


def as_judge(metric: Metric | None) -> Judge | None:
    """The metric as what it is; ValueError where it names nothing, None of None."""
    if metric is None or isinstance(metric, Judge):
        return metric
    raise ValueError(f"recogniser is a {type(metric).__name__}, which names nothing; give recognition")


def ranks(judge: Judge, images: Tensor, right: Sequence[Sequence[str]]) -> Tensor:
    """How many wrong things the judge holds for at least as likely as the likeliest right one: int64[B], 0 is a hit.

    images: uint8[B, 3, H, W]; right: for each, the things that count as right; `UNKNOWN` where the judge knows none.
    """
    places = {thing: place for place, thing in enumerate(judge.things)}
    found = []
    for scores, things in zip(judge.scores(images), right, strict=True):
        own = [places[thing] for thing in things if thing in places]
        if not own:
            found.append(UNKNOWN)
            continue
        wrong = torch.ones(len(scores), dtype=torch.bool)
        wrong[own] = False
        found.append(int((scores[wrong] >= scores[own].max()).sum()))
    return torch.tensor(found, dtype=torch.int64)


def shares(found: Tensor) -> dict[str, float]:
    """{"top-1": ..., "top-5": ...} of ranks int64[N]."""
    return {f"top-{k}": recall(found, k) for k in TOP}


class Recognised:
    """The ranks of one split's pictures, by stage and by what was shown; nothing is kept where there is no judge."""

    def __init__(self, judge: Judge | None) -> None:
        self.judge = judge
        self.ranks: dict[tuple[str, str], list[Tensor]] = defaultdict(list)

    def add(self, stage: str, what: str, images: Tensor, records: Sequence[Record]) -> None:
        """One batch, uint8[B, 3, H, W], of the records' things."""
        if self.judge is not None:
            self.ranks[stage, what].append(ranks(self.judge, images, [[record["thing"]] for record in records]))

    def shares(self, stage: str) -> dict[str, dict[str, float]]:
        """Top-1 and top-5 of all that was shown of a stage."""
        return {what: shares(torch.cat(parts)) for (name, what), parts in self.ranks.items() if name == stage}


def check_knows(judge: Judge) -> None:
    """UserError where the judge's weights can't be had, or it names nothing."""
    if not judge.things:
        raise UserError("recogniser: it names nothing; give one that was trained, such as recognition")


def check_named(judge: Judge | None, records: Sequence[Record]) -> None:
    """UserError where pictures are to be recognised, and the data set does not say what they show."""
    if judge is not None and "thing" not in records[0]:
        raise UserError(
            "dataset: it does not say what its pictures show, so that none can be recognised; give one that does, such "
            "as dataset.use=emoji, or recogniser=null"
        )
