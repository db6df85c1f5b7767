"""A training's numbers and pictures in TensorBoard's format, beside its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from muse_observers.place import folder_of
from muse_studio.errors import UserError
from muse_studio.hookspecs import hookimpl


class TensorBoard:
    """Write a training's numbers, its speed and its sheets of samples for TensorBoard, into the run's own folder.

    `tensorboard --logdir runs` shows all runs below `runs`. Of a resumed run, points at and behind its first row are
    taken back, as they come again. Each run within a run writes to its own folder; what is no training writes nothing.

    Needs the package: pip install 'muse-studio[tensorboard]'.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    @hookimpl
    def muse_started(self, task: Any) -> None:
        """Prepare the folder; UserError where the package is missing or the folder can't be written."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"the observer tensorboard needs the package tensorboard ({error}): "
                "pip install 'muse-studio[tensorboard]'"
            ) from error
        self._runs.append(_Run(folder_of(task, None, "out of the observer tensorboard") / "tensorboard"))

    @hookimpl
    def muse_step(self, step: int, image: Tensor | None, numbers: dict[str, float] | None) -> None:
        """A row of the log, or a sheet of samples; it is in the file when this returns."""
        if self._runs and not (numbers is None and image is None):
            self._runs[-1].add(step, numbers or {}, image)

    @hookimpl
    def muse_finished(self) -> None:
        """The innermost run is over."""
        self._runs.pop().close()

    @hookimpl
    def muse_failed(self) -> None:
        """The innermost run is over."""
        self._runs.pop().close()


class _Run:
    """A run's event file, which is there from its first row on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def add(self, step: int, numbers: dict[str, float], image: Tensor | None) -> None:
        """Numbers by name, and a picture uint8[3, H, W], at a step."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        if image is not None:
            self._writer.add_image("samples", image, step)
        self._writer.flush()

    def close(self) -> None:
        """Write all and close the file."""
        if self._writer is not None:
            self._writer.close()
