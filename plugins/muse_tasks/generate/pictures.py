"""The result of a task that draws: pictures, and the files that they were written to."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from muse_studio.images.sheets import Section, Tile, contact_sheet, side_of

SHOWN = 256
"""Pictures on a contact sheet; of more, the first ones stand on it."""


@dataclass
class Pictures:
    """What was drawn, in the order of the prompts; a notebook shows it as a picture.

    before: the picture that was edited, where one was. between: what editing came by. seconds: of sampling and
    decoding, picture by picture, where `generate` drew them.
    """

    images: list[Image.Image] = field(repr=False)
    paths: list[Path]
    prompts: list[str]
    seeds: list[int]
    sheet: Path | None = None
    animations: list[Path] = field(default_factory=list)
    strips: list[Path] = field(default_factory=list)
    before: Image.Image | None = field(default=None, repr=False)
    between: list[Path] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list, repr=False)

    def add(self, image: Image.Image, path: Path, prompt: str, seed: int) -> None:
        """One more picture, and where it was written."""
        self.images.append(image)
        self.paths.append(path)
        self.prompts.append(prompt)
        self.seeds.append(seed)

    def summary(self) -> str:
        """One line a file: where it is; of a picture its seed and its prompt."""
        lines = []
        for index, path in enumerate(self.paths):
            lines.append(f"{path}  seed {self.seeds[index]}  {self.prompts[index] or '(no prompt)'}")
            lines += [f"{each}  its animation" for each in self.animations[index : index + 1]]
            lines += [f"{each}  its steps" for each in self.strips[index : index + 1]]
        lines += [f"{each}  on the way" for each in self.between]
        shown = "all" if len(self.images) <= SHOWN else f"the first {SHOWN}"
        return "\n".join(lines if self.sheet is None else [*lines, f"{self.sheet}  {shown} of them"])

    def contact_sheet(self) -> Image.Image:
        """All pictures on one (the first 256, where there are more), with their prompts, behind the edited one."""
        given = [] if self.before is None else [Tile([self.before], "before")]
        tiles = [Tile([image], prompt) for image, prompt in zip(self.images, self.prompts, strict=True)][:SHOWN]
        return contact_sheet([Section("", given + tiles, [])], side=side_of(self.images[0]))

    def _repr_html_(self) -> str | None:
        """A single picture that has an animation moves in a notebook."""
        if len(self.animations) != 1 or not self.animations[0].is_file():
            return None
        data = base64.b64encode(self.animations[0].read_bytes()).decode()
        return f'<img src="data:image/webp;base64,{data}" alt="{html.escape(self.prompts[0])}">'

    def _repr_png_(self) -> bytes:
        shown = self.images[0] if len(self.images) == 1 else self.contact_sheet()
        file = io.BytesIO()
        shown.save(file, "PNG")
        return file.getvalue()
