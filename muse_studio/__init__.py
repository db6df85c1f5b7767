"""An open home of masked generative image models (Muse): parts from plugins, put together by recipes.

`run`, `check` and `parts` do what the muse command does, `load` gives a model's own parts, `Canvas` is a picture to
draw on and change, `hookimpl` marks what a plugin offers, `API` is the version of what it may rest on. Each is imported
when it is first asked for, so that `import muse_studio` loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muse_studio.errors import PluginError, Problem, RecipeError, UserError
    from muse_studio.hookspecs import API, hookimpl
    from muse_studio.recipe.running import check, parts, run
    from muse_studio.sampling.canvas import Canvas
    from muse_studio.sampling.model import load

__all__ = [
    "API",
    "Canvas",
    "PluginError",
    "Problem",
    "RecipeError",
    "SettingError",
    "UserError",
    "check",
    "hookimpl",
    "load",
    "parts",
    "run",
]

_HOMES = {
    "errors": ("PluginError", "Problem", "RecipeError", "SettingError", "UserError"),
    "hookspecs": ("API", "hookimpl"),
    "recipe.running": ("check", "parts", "run"),
    "sampling.canvas": ("Canvas",),
    "sampling.model": ("load",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
