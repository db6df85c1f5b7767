"""Holes in real pictures, filled again under their own captions and under others: does the caption matter?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from muse_studio.contracts import Dataset
from muse_studio.errors import UserError
from muse_studio.images.pixels import to_bytes, to_images
from muse_studio.images.sheets import Section, Tile
from muse_studio.sampling.cascade import decode
from muse_tasks.edit.batch import BatchEditor
from muse_tasks.evaluate.edit_measures import draw_corners, hole_errors, holes
from muse_tasks.evaluate.records import Record, Split, load, stream
from muse_tasks.evaluate.totals import mean

CAPTIONS = ("own", "other")


def measure_inpainting(run: BatchEditor, dataset: Dataset, n: int, shown: int) -> tuple[dict[str, Any], Section]:
    """The numbers of n held-out pictures, or of seen ones where none is held out, and the first `shown` of them.

    Raises UserError where all captions are the same.
    """
    splits = load(dataset)
    split: Split = "held-out" if "held-out" in splits else "seen"
    records = splits[split]
    chosen = torch.randperm(len(records), generator=stream(run.seed, "refilled", "choice"))[:n].tolist()
    places, lots = (stream(run.seed, "refilled", purpose) for purpose in ("holes", "captions"))
    drawing = {which: stream(run.seed, "refilled", "draw", which) for which in CAPTIONS}
    errors: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
    tiles: list[Tile] = []
    stage = list(run.task.stages.values())[-1]
    with run.bar(len(CAPTIONS) * run.batches(len(chosen)), "holes refilled") as watch:
        for indices in run.batched(chosen):
            real = torch.stack([stage.resize(records[index]["image"]) for index in indices])
            corners = draw_corners(len(indices), stage.height, stage.width, places)
            regions = holes(corners, stage.height, stage.width)
            captions = {
                "own": [records[index]["caption"] for index in indices],
                "other": [_another(records, index, lots) for index in indices],
            }
            pictures = {
                which: run.edit(real, regions, captions[which], drawing[which], watch=watch) for which in CAPTIONS
            }
            with torch.inference_mode():
                tokens = stage.tokenizer.encode((real.float() / 255).to(run.device))
            pictures["tokenizer"] = to_bytes(decode(stage, tokens)).cpu()
            for which, each in pictures.items():
                for measure, error in hole_errors(real, each, corners).items():
                    errors[measure, which].append(error)
            cut = torch.where(regions[:, None], 128, real)
            for row in range(min(len(indices), shown - len(tiles))):
                images = [each[row] for each in (real, cut, pictures["own"], pictures["other"])]
                tiles.append(Tile(to_images(torch.stack(images)), f"{captions['own'][row]} / {captions['other'][row]}"))
    measures = dict.fromkeys(measure for measure, _ in errors)
    found = {measure: _summed(measure, errors) for measure in measures}
    section = Section("own caption / another", tiles, ["real", "hole", *CAPTIONS])
    return {"split": split, "n": len(chosen), "errors": found}, section


def _summed(measure: str, errors: dict[tuple[str, str], list[Tensor]]) -> dict[str, float]:
    own, other = (torch.cat(errors[measure, which]) for which in CAPTIONS)
    return {
        "own": own.mean().item(),
        "other": other.mean().item(),
        "ratio": (own.mean() / other.mean()).item(),
        "own_nearer": (own < other).double().mean().item(),
        "tokenizer": mean(errors[measure, "tokenizer"]),
    }


def _another(records: Sequence[Record], index: int, lots: torch.Generator) -> str:
    """The caption of another record, drawn by lot; the next one's where that is the same."""
    start = int(torch.randint(len(records), (), generator=lots))
    for step in range(len(records)):
        caption = records[(start + step) % len(records)]["caption"]
        if caption != records[index]["caption"]:
            return caption
    raise UserError(
        "dataset: all captions are the same, so that none can be held against another; give one that differs"
    )
