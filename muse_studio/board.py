"""A run's numbers in TensorBoard's format, beside the CSV."""

from __future__ import annotations

from pathlib import Path

from muse_studio.errors import UserError
from muse_studio.runlog import Row


class Board:
    """Event files in `folder`, which `tensorboard --logdir` shows.

    start: the step that the run goes on from; points behind it are taken back, as they will come again.
    Raises UserError where the package is missing.
    """

    def __init__(self, folder: Path, start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                f"fit.tensorboard needs the package tensorboard ({error}): pip install 'muse-studio[tensorboard]'"
            ) from error
        self.writer = SummaryWriter(str(folder), purge_step=start + 1)

    def append(self, row: Row) -> None:
        """Add a row's numbers at its `step`; they are in the file when this returns."""
        for key, value in row.items():
            if key != "step":
                self.writer.add_scalar(key, value, int(row["step"]))
        self.writer.flush()

    def close(self) -> None:
        """Write all and close the file."""
        self.writer.close()
