"""A run's checkpoints at a second place, so that a machine that is taken away takes nothing with it."""

from __future__ import annotations

import warnings
from pathlib import Path

from fsspec import AbstractFileSystem

from muse_studio.errors import UserError, words_of
from muse_studio.runtime.fetching import file_system
from muse_studio.runtime.files import file_name
from muse_studio.training import checkpoint
from muse_studio.training.fit import FOLDER
from muse_studio.training.log import LOG
from muse_studio.training.state import STATE


def send(out: Path, address: str, keep: int, file: Path | None = None) -> None:
    """Copy the newest checkpoint in `out` and the log beside it, or one `file`, to any address that fsspec knows.

    A copy that fails is a warning: the run, and its own checkpoints, matter more.
    """
    try:
        system, root = file_system(address)
        if file is not None:
            system.makedirs(root, exist_ok=True)
            system.put_file(str(file), f"{root}/{file.name}")
            return
        step = checkpoint.newest(out / FOLDER)
        if step is None:
            return
        target = f"{root}/{FOLDER}/{step.name}"
        system.makedirs(target, exist_ok=True)
        # What says that a checkpoint is whole goes last, as it was written last.
        for part in sorted(step.iterdir(), key=lambda each: each.name == STATE):
            system.put_file(str(part), f"{target}/{part.name}")
        if (out / LOG).exists():
            system.put_file(str(out / LOG), f"{root}/{LOG}")
        for old in _steps(system, root)[:-keep]:
            system.rm(f"{root}/{FOLDER}/{old}", recursive=True)
    except Exception as error:  # each file system raises what its own library has
        warnings.warn(f"{address} could not be written ({words_of(error)}); the run goes on", stacklevel=2)


def fetch(out: Path, address: str) -> None:
    """Bring the newest whole checkpoint at an address into `out`, with the log; nothing where there is none.

    UserError where the address can't be read: to start anew in silence would be the worse mistake.
    """
    try:
        system, root = file_system(address)
        for name in reversed(_steps(system, root)):
            target = out / FOLDER / name
            target.mkdir(parents=True, exist_ok=True)
            for part in system.ls(f"{root}/{FOLDER}/{name}", detail=False):
                system.get_file(part, str(target / file_name(_name(part), address)))
            if checkpoint.sound(out / FOLDER):
                if system.exists(f"{root}/{LOG}"):
                    system.get_file(f"{root}/{LOG}", str(out / LOG))
                return
    except Exception as error:  # each file system raises what its own library has
        raise UserError(
            f"{address} could not be read ({words_of(error)}); check fit.upload, or set it to null"
        ) from error


def _steps(system: AbstractFileSystem, root: str) -> list[str]:
    """The names of the checkpoints there, the newest last."""
    if not system.exists(f"{root}/{FOLDER}"):
        return []
    system.invalidate_cache()
    return checkpoint.in_order(map(_name, system.ls(f"{root}/{FOLDER}", detail=False)))


def _name(path: str) -> str:
    """The last part of a path as fsspec's file systems give it, some of them folders' with a slash behind."""
    return path.rstrip("/").rsplit("/", 1)[-1]
