"""An open home of masked generative image models (Muse): parts from plugins, put together by recipes.

`load` gives a `Model`, which draws and edits in memory, or a part alone; `to_tensor` and `to_image` go between pictures
and tensors; `Canvas` is a picture to draw on and change. `run`, `check` and `parts` do what the muse command does.
`figures` draws tokens and maps, `hookimpl` marks what a plugin offers, `API` is the version of what it rests on. Each
is imported when it is first asked for, so that `import muse_studio` loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muse_studio.errors import PluginError, Problem, RecipeError, SettingError, UserError
    from muse_studio.hookspecs import API, hookimpl
    from muse_studio.images import figures
    from muse_studio.images.pixels import to_image
    from muse_studio.images.reading import to_tensor
    from muse_studio.recipe.running import check, parts, run
    from muse_studio.sampling.drawn import Picture, Step
    from muse_studio.sampling.editing.canvas import Canvas
    from muse_studio.sampling.model import Model, load

    __version__: str

__all__ = [
    "API",
    "Canvas",
    "Model",
    "Picture",
    "PluginError",
    "Problem",
    "RecipeError",
    "SettingError",
    "Step",
    "UserError",
    "__version__",
    "check",
    "figures",
    "hookimpl",
    "load",
    "parts",
    "run",
    "to_image",
    "to_tensor",
]

_HOMES = {
    "errors": ("PluginError", "Problem", "RecipeError", "SettingError", "UserError"),
    "hookspecs": ("API", "hookimpl"),
    "images.pixels": ("to_image",),
    "images.reading": ("to_tensor",),
    "recipe.running": ("check", "parts", "run"),
    "sampling.editing.canvas": ("Canvas",),
    "sampling.drawn": ("Picture", "Step"),
    "sampling.model": ("Model", "load"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # here: it takes as long as all of this module

        return version("muse-studio")
    if name == "figures":
        return import_module(f"{__name__}.images.figures")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
