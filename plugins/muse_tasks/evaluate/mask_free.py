"""Pictures edited by words alone, of which the right result is known: did what was asked change, and all else stay?"""

from __future__ import annotations

from typing import Any

import torch

from muse_studio.images.pixels import to_images
from muse_studio.images.sheets import Section, Tile
from muse_tasks.edit.batch import BatchEditor
from muse_tasks.evaluate.edit_cases import Editable, EditCase
from muse_tasks.evaluate.edit_measures import Verdict, judge
from muse_tasks.evaluate.records import stream

SHARES = ("moved", "found", "changed", "kept", "both")


def measure_mask_free(
    run: BatchEditor, dataset: Editable, count: int, away: bool, shown: int
) -> tuple[dict[str, Any], Section]:
    """The numbers of so many cases, by attribute and over all, and the first `shown` of them.

    away: lead each edit away from the caption of the picture before.
    """
    stage = list(run.task.stages.values())[-1]
    cases = [_fit(case, stage.resize) for case in dataset.edits(count, run.seed)]
    drawing = stream(run.seed, "edited", "draw")
    drawn = []
    with run.bar(run.batches(len(cases)), "pictures edited") as watch:
        for batch in run.batched(cases):
            before = torch.stack([case["before"] for case in batch])
            everywhere = torch.ones(len(batch), *before.shape[2:], dtype=torch.bool)
            prompts = [case["prompt_after"] for case in batch]
            negatives = [case["prompt_before"] for case in batch] if away else None
            drawn.append(run.edit(before, everywhere, prompts, drawing, negatives=negatives, watch=watch))
    results = torch.cat(drawn)
    verdicts = judge(cases, results)
    kinds = dict.fromkeys(verdict.kind for verdict in verdicts)
    found = {kind: _shares([each for each in verdicts if each.kind == kind]) for kind in kinds}
    tiles = [
        Tile(to_images(torch.stack([case["before"], result, case["after"]])), _caption(case, verdict))
        for case, result, verdict in zip(cases[:shown], results, verdicts, strict=False)
    ]
    section = Section("edited by a prompt alone", tiles, ["before", "edited", "truth"])
    return {"away": away, "cases": {**found, "all": _shares(verdicts)}}, section


def _fit(case: EditCase, resize: Any) -> EditCase:
    """The case in pictures of a stage's size."""
    before, after, others = (resize(pictures) for pictures in (case["before"], case["after"], case["others"]))
    return {**case, "before": before, "after": after, "others": others}


def _shares(verdicts: list[Verdict]) -> dict[str, float]:
    return {"n": len(verdicts)} | {
        share: sum(getattr(verdict, share) for verdict in verdicts) / len(verdicts) for share in SHARES
    }


def _caption(case: EditCase, verdict: Verdict) -> str:
    marks = [name if getattr(verdict, name) else f"not {name}" for name in ("changed", "kept")]
    return f"{case['prompt_after']} ({', '.join(marks)})"
