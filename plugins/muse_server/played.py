"""The actions in a picture of a canvas, as a client would send them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from muse_studio.errors import UserError
from muse_studio.recipe.strangers import is_box
from muse_studio.sampling.editing.deeds import check_actions

MOST = 500
"""Actions that are taken of one picture."""


def client_actions(actions: Any, stage: str, notices: list[str]) -> dict[str, Any]:
    """`{"actions": [...]}` in the form that a client's have, which are checked when they are done; else a notice.

    stage: the first one's name, whose cells a region is told by. A picture that was placed is not in the recipe in a
    form that a client may send, so that there is nothing to do again then.
    """
    try:
        check_actions(actions)
        if len(actions) > MOST:
            raise UserError(f"there are {len(actions)}, and {MOST} are the most")
        return {"actions": [_action(each, stage) for each in actions]}
    except UserError as error:
        notices.append(f"what was done on its canvas can't be done again here: {error}")
        return {}


def _action(action: Mapping[str, Any], stage: str) -> dict[str, Any]:
    if action["do"] == "place":
        raise UserError("another picture was placed on it")
    told = {key: each for key, each in action.items() if each is not None}
    if "region" in told:
        told["region"] = _region(told["region"], stage)
    return told


def _region(region: Any, stage: str) -> dict[str, Any]:
    """Boxes as lists of numbers, cells as the bits of the first stage's grid; never a file's name."""
    if isinstance(region, Mapping):
        if stage not in region:
            raise UserError(f"a region is told by the cells of other stages than {stage}")
        try:
            bits = bytes.fromhex(region[stage].partition(":")[2])
        except ValueError as error:
            raise UserError("a region's cells are no hexadecimals") from error
        return {"cells": {"stage": stage, "bits": base64.b64encode(bits).decode()}}
    boxes = [region] if isinstance(region, str) else region
    if not all(is_box(each) for each in boxes):
        raise UserError("a region is no box")
    return {"boxes": [[int(number) for number in each.split(",")] for each in boxes]}
