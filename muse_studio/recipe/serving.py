"""Any recipe that has a model, as one for the task `studio`, which serves it."""

from __future__ import annotations

from pathlib import Path

from muse_studio.errors import UserError
from muse_studio.recipe import merging
from muse_studio.recipe.build import OBSERVERS
from muse_studio.recipe.tree import Node

PAGE = "studio"
"""The shipped recipe, and the task, that serve a page."""
MODEL = ("stages", "text_encoder")


def page_of(recipe: str) -> Node:
    """The recipe `studio` with another one's model and observers, whatever the other is for; its own, where it serves.

    UserError where there is no such recipe, or it has no stages to draw with.
    """
    root = merging.load(recipe)
    assert isinstance(root.value, dict)  # merging refuses all else
    if "use" in root.value and root.value["use"].value == PAGE:
        return root
    if missing := [key for key in MODEL if key not in root.value]:
        raise UserError(f"{recipe} has no {missing[0]} to draw with; give a model, such as models/emoji, or its task")
    page = merging.load(PAGE)
    assert isinstance(page.value, dict)
    taken = {key: root.value[key] for key in (*MODEL, OBSERVERS) if key in root.value}
    known = recipe.removesuffix(".yaml") in merging.shipped()
    name = recipe.removesuffix(".yaml") if known else Path(recipe).name  # where it lies is nobody's business
    return Node({**page.value, **taken, "name": Node(name, root.place)}, root.place)
