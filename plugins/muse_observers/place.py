"""Where an observer writes what belongs to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muse_studio.errors import SettingError
from muse_studio.runtime.files import open_folder, path_of
from muse_studio.runtime.launch import trusted
from muse_studio.training.log import Logged


def check_inside(given: str | None, setting: str) -> None:
    """SettingError where a recipe would have an observer write beside the folder in which it runs, unless trusted."""
    if given is None or trusted():
        return
    if path_of(given).is_absolute() or ".." in Path(given).parts:
        message = f"{setting} is {given!r}, which leaves the folder that this runs in; give a path below it, or --trust"
        raise SettingError(setting, message)


def folder_of(task: Any, given: str | None, setting: str) -> Path:
    """The folder `given`, else the task's own: its `out`, `fit.out`, or the folder of the file that `out` names.

    Made where it is missing; UserError, naming the `setting`, where it can't be written.
    """
    own = task.fit.out if isinstance(task, Logged) else getattr(task, "out", "out")
    path = path_of(own if given is None else given)
    names_a_file = given is None and path.suffix.lower() in (".png", ".safetensors")
    return open_folder(path.parent if names_a_file else path, setting)
