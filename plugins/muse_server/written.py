"""What was set and done on the page, to take along: as a recipe in YAML, and as Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muse_studio.recipe.tree import to_yaml

_FIRST = {"generate": "prompt", "erase": "region", "freeze": "region", "thaw": "region"}
"""The argument that is written without its name."""
_SIDES = ("left", "top", "right", "bottom")
_SILENT: dict[str, Any] = {"negative": "", "settings": None, "region": None, **dict.fromkeys(_SIDES, 0)}
"""Arguments that are not written where they are this."""


def as_yaml(name: str, asked: Mapping[str, Any], settings: Mapping[str, Any] | None) -> str:
    """A recipe for `muse run`: the served model, what is asked for, and the settings of its stages that were changed.

    name: of the served recipe. asked: prompt, negative and seed, as far as they are known.
    """
    recipe: dict[str, Any] = {"extends": name, "use": "generate", "prompt": "", **asked}
    if settings:
        recipe["stages"] = settings
    return to_yaml(recipe)


def as_code(name: str, seed: int, actions: Sequence[Mapping[str, Any]] | None) -> str:
    """Python that does a canvas's actions again; where they can't all be told, it says so.

    A picture that was placed is told by a name that stands for its file.
    """
    lines = ["from muse_studio import Canvas", "", f"canvas = Canvas.open({name!r}, seed={seed})"]
    if actions is None:
        lines.append("# what was done here can't be told in full; save the canvas, and open it with Canvas.load(file)")
    return "\n".join([*lines, *map(_call, actions or ()), 'canvas.save_picture("picture.png")', ""])


def _call(action: Mapping[str, Any]) -> str:
    if action["do"] == "place":
        return 'canvas.place("picture.png")  # the picture that was placed'
    first = _FIRST.get(action["do"])
    given = {
        key: each
        for key, each in action.items()
        if key not in ("do", first) and not (key in _SILENT and each == _SILENT[key])
    }
    written = [repr(action[first])] if first and action.get(first) is not None else []
    return f"canvas.{action['do']}({', '.join(written + [f'{key}={each!r}' for key, each in given.items()])})"
