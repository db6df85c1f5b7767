"""Canvas files of anybody: judged before anything is made of them, and of the served model or refused."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from muse_server.canvases import moments
from muse_server.refusals import Refusal
from muse_server.settings import check_values
from muse_studio.contracts import MASK
from muse_studio.errors import UserError, words_of
from muse_studio.recipe.strangers import is_box
from muse_studio.runtime import weights
from muse_studio.sampling.arguments import LARGEST_SEED
from muse_studio.sampling.cascade import Cascade
from muse_studio.sampling.editing import deeds
from muse_studio.sampling.editing.canvas import Canvas
from muse_studio.sampling.editing.history import DRAWN, GRIDS, KEY, Moment

MOST_DILATED = 64
"""Rings of tokens around a region, at most."""

_NAME = re.compile(r"(?P<moment>0|[1-9]\d{0,3})\.(?:(?P<what>codes|erased|frozen)\.(?P<stage>.+)|drawn)")


LONGEST = 2**24
"""Bytes of a file's head, in which 500 actions have room."""


def read(content: bytes, model: Cascade) -> Canvas:
    """The canvas of a file's bytes, to go on with this model; the recipe in it is ignored.

    Refusal where it is no canvas file, holds what none does, or is of a model with other stages, grids or codes.
    """
    try:
        settings = _settings(content)
        tensors = _tensors(content, settings["did"], model)
        history = [_moment(tensors, number, did, model) for number, did in enumerate(settings["did"])]
        canvas = Canvas.of(model, settings["seed"], settings["dilate"], keep_steps=True)
        return moments.trimmed(canvas.restore(history, settings["place"]))
    except (UserError, LookupError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise Refusal(f"this is no canvas that can be opened here: {words_of(error)}", "file") from error


def described(header: Mapping[str, str]) -> tuple[list[dict[str, Any]], int]:
    """What was done on the canvas of a file's metadata, and how much was undone; ValueError where it is none."""
    try:
        told = json.loads(header[KEY])
        done = [dict(did) for did in told["did"][1:]]
        return done[: told["place"]], len(done[told["place"] :])
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(words_of(error)) from error


def _settings(content: bytes) -> dict[str, Any]:
    """What the file's metadata says: did, place, seed and dilate, each as it must be."""
    if int.from_bytes(content[:8], "little") > LONGEST:
        raise ValueError("it is damaged, or no safetensors file")
    _, metadata = weights.header_of(io.BytesIO(content), len(content), "it")
    if KEY not in metadata:
        raise ValueError("it holds other tensors; give a file of Canvas.save")
    told = json.loads(metadata[KEY])
    done = told["did"]
    if not isinstance(done, list) or not 1 <= len(done) <= moments.KEPT + 1:
        raise ValueError(f"it tells of no moment, or of more than {moments.KEPT}")
    for name, least, most in (
        ("place", 0, len(done) - 1),
        ("seed", 0, LARGEST_SEED),
        ("dilate", 0, MOST_DILATED),
    ):
        if type(told[name]) is not int or not least <= told[name] <= most:
            raise ValueError(f"its {name} is no whole number from {least} to {most}")
    return {key: told[key] for key in ("place", "seed", "dilate")} | {"did": [{"do": "start"}, *map(_did, done[1:])]}


def _did(did: Any) -> dict[str, Any]:
    """An action of the file, as one of ours, without what none has; what names a place is refused."""
    if not isinstance(did, dict):
        raise ValueError("what was done is no table")
    kept = {key: each for key, each in did.items() if key in ("do", *deeds.ACTIONS.get(str(did.get("do")), ()))}
    deeds.check_actions([kept])
    region = kept.get("region")
    if not isinstance(region, Mapping | None) and not all(map(is_box, [region] if isinstance(region, str) else region)):
        raise ValueError("a region in it is a file's name")
    for grid in region.values() if isinstance(region, Mapping) else ():
        deeds.unpack(grid)
    for key in ("settings", "editor"):
        check_values(kept.get(key), key)
    shown = {"picture": "a picture"} if kept["do"] == "place" else {}
    return kept | shown | ({deeds.UNSAID: True} if deeds.UNSAID in did else {})


def _tensors(content: bytes, done: list[dict[str, Any]], model: Cascade) -> dict[str, Tensor]:
    """The file's tensors, once their names and shapes are those of a canvas of this model."""
    shapes, _ = weights.header_of(io.BytesIO(content), len(content), "it")
    for name, shape in shapes.items():
        found = _NAME.fullmatch(name)
        if found is None or int(found["moment"]) >= len(done):
            raise ValueError(f"it holds the tensor {name[:60]!r}, which is none of a canvas")
        if found["stage"] is not None and found["stage"] not in model.stages:
            stages = ", ".join(model.stages)
            raise ValueError(f"it has a stage {found['stage'][:60]!r}, and the model that is served has {stages}")
        if len(shape) != 3 or shape[0] != 1 or min(shape) < 1:
            raise ValueError(f"its tensor {name[:60]} is of shape {shape[:8]}, and grids are [1, rows, columns]")
    tensors = load(content)
    for name, tensor in tensors.items():
        due = torch.int64 if ".codes." in name else torch.bool
        if tensor.dtype != due:
            raise ValueError(f"its tensor {name} is of {tensor.dtype}, and {due} is due")
    return tensors


def _moment(tensors: dict[str, Tensor], number: int, did: dict[str, Any], model: Cascade) -> Moment:
    grids: dict[str, Any] = {
        what: {name: tensors[f"{number}.{what}.{name}"] for name in model.stages} for what in GRIDS
    }
    for name, stage in model.stages.items():
        codes, erased = grids["codes"][name], grids["erased"][name]
        if codes.shape != erased.shape:
            raise ValueError(f"its grids of {name} are of different sizes")
        least, most, size = int(codes.min()), int(codes.max()), stage.tokenizer.codebook_size
        if least < MASK or most >= size:
            code = most if most >= size else least
            raise ValueError(f"it holds the code {code} of {name}, and the model that is served has {size}")
        if bool(((codes == MASK) & ~erased).any()):
            raise ValueError(f"it has no code at a place of {name} that is not erased")
    return Moment(**grids, did=did, drawn=tensors.get(f"{number}.{DRAWN}"))
