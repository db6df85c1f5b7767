"""A picture's way from all masked to finished: the tokens of each step, shown as frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from muse_studio.images.naming import spell
from muse_studio.images.pixels import to_images
from muse_studio.images.provenance import Provenance
from muse_studio.images.sheets import Section, Tile, contact_sheet, side_of
from muse_studio.sampling.cascade import count_steps
from muse_studio.sampling.previews import previews
from muse_studio.sampling.stage import Stage
from muse_tasks.generate.pictures import save_animation

STEP, REST = 120, 2500
"""Milliseconds that an animation shows a step, and the finished picture."""
SHOWN = 6
"""Steps of each stage on a strip, evenly chosen, the last one among them; of fewer, all."""


@dataclass
class Frame:
    """What is known after a step, from 0, where all is masked, to `steps`."""

    stage: str
    step: int
    steps: int
    image: Image.Image


class Film:
    """One picture's tokens after each step, kept until it is finished, and then the frames that they make."""

    def __init__(self, stages: dict[str, Stage]) -> None:
        self.stages = stages
        self.grids: dict[str, list[Tensor]] = {name: [] for name in stages}

    def keep(self, stage: str, tokens: Tensor) -> None:
        """Note int64[1, h, w] as the stage's next step."""
        self.grids[stage].append(tokens.clone())

    @property
    def count(self) -> int:
        """How many frames there will be: one for each step, and one of each stage all masked."""
        return count_steps(self.stages) + len(self.stages)

    def frames(self, picture: Image.Image) -> Iterator[Frame]:
        """Each stage's steps from all masked on, up to the finished `picture`.

        All have its size: earlier stages are enlarged without smoothing, so that their cells stay crisp.
        """
        before = None
        last = list(self.stages)[-1]
        for name, stage in self.stages.items():
            grids = self.grids[name]
            blank = stage.blank(1, grids[0].device)
            for step, shown in enumerate(previews(stage, [blank, *grids], before)):
                finished = name == last and step == len(grids)
                image = picture if finished else to_images(shown)[0].resize(picture.size, Image.Resampling.NEAREST)
                yield Frame(name, step, len(grids), image)
            before = shown


def animate(frames: Sequence[Frame], path: Path, provenance: Provenance) -> Path:
    """Write the frames as an animation that rests on the last one; see `save_animation`."""
    milliseconds = [STEP] * (len(frames) - 1) + [REST]
    return save_animation([frame.image for frame in frames], milliseconds, path, provenance)


def strip(frames: Sequence[Frame], prompt: str) -> Image.Image:
    """A few steps of each stage, from left to right in one row, up to the finished picture."""
    shown = [
        frame
        for frame in frames
        # Rounded up, so that the last of the SHOWN is the last step, and 0 is none of them.
        if frame.step in {-(-frame.steps * part // SHOWN) for part in range(1, SHOWN + 1)}
    ]
    tiles = [Tile([frame.image], f"{frame.stage}, step {frame.step} of {frame.steps}") for frame in shown]
    return contact_sheet([Section(spell(prompt), tiles, [])], side=side_of(shown[-1].image), columns=len(tiles))
