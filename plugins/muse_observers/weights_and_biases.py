"""A run's numbers and pictures in Weights & Biases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from muse_observers.place import check_inside, folder_of
from muse_studio.contracts import RunContext
from muse_studio.errors import UserError
from muse_studio.hookspecs import hookimpl
from muse_studio.images.pixels import to_images

SHOWN = 64
"""Drawn pictures that are logged, at most."""


@dataclass
class WeightsAndBiases:
    """Log to Weights & Biases: a training's numbers and sample sheets, an evaluation's scores, the pictures drawn.

    Needs the package: pip install 'muse-studio[wandb]'. What a run within this one does, as in a sweep, is not logged:
    name the observer in the sweep's `recipe` instead, and each has a run of its own.

    project, name, entity, tags: as wandb.init takes them.
    mode: offline keeps all on this machine until `wandb sync`; by default what WANDB_MODE says, which is online.
    out: the folder in which it makes its folder wandb; by default where the run writes to.
    """

    project: str = "muse_studio"
    name: str | None = None
    entity: str | None = None
    tags: list[str] = field(default_factory=list)
    mode: Literal["online", "offline"] | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        check_inside(self.out, "out")
        self._depth = 0
        self._run: Any = None

    @hookimpl
    def muse_started(self, task: Any, context: RunContext) -> None:
        """Open a run with the recipe as its configuration; UserError where the package or the service refuses."""
        if self._depth == 0:
            self._run = self._open(task, context)
        self._depth += 1

    @hookimpl
    def muse_step(self, step: int, image: Tensor | None, numbers: dict[str, float] | None) -> None:
        """A training's numbers, and its sheet of samples."""
        if self._depth == 1 and numbers is not None:
            self._run.log(dict(numbers), step=step)
        if self._depth == 1 and image is not None:
            self._run.log({"samples": self._image(to_images(image[None])[0])}, step=step)

    @hookimpl
    def muse_finished(self, result: Any) -> None:
        """What came of it, and the run is closed."""
        self._depth -= 1
        if self._depth > 0:
            return
        if images := getattr(result, "images", []):
            shown = zip(images[:SHOWN], result.prompts, strict=False)
            self._run.log({"pictures": [self._image(image, caption=prompt) for image, prompt in shown]})
        if callable(scores := getattr(result, "scores", None)):
            self._run.summary.update(scores())
        self._run.finish()

    @hookimpl
    def muse_failed(self) -> None:
        """The run is closed as one that failed."""
        self._depth -= 1
        if self._depth == 0:
            self._run.finish(exit_code=1)

    def _open(self, task: Any, context: RunContext) -> Any:
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                f"the observer wandb needs the package wandb ({error}): pip install 'muse-studio[wandb]'"
            ) from error
        self._image = wandb.Image
        folder = folder_of(task, self.out, "out of the observer wandb")
        try:
            return wandb.init(
                project=self.project,
                name=self.name,
                entity=self.entity,
                tags=self.tags or None,
                mode=self.mode,
                dir=str(folder.resolve()),  # its service has a working folder of its own
                config=context.recipe,
                settings=wandb.Settings(console="off"),  # it would capture the progress bar
            )
        except wandb.Error as error:
            raise UserError(f"the observer wandb: {error}; log in by `wandb login`, or give mode: offline") from error
