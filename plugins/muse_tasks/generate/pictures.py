"""What is asked of a task that draws, and its result: pictures, in files whole or not at all, never over another."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from muse_studio.errors import SettingError
from muse_studio.images.naming import check_prompt
from muse_studio.images.provenance import Provenance
from muse_studio.runtime.files import open_folder, path_of, temporary_name, unwritable
from muse_studio.sampling.arguments import LARGEST_SEED

ANIMATION, STRIP = ".webp", "-steps.png"
"""How the files' names end that stand beside a picture."""
SHOWN = 256
"""Pictures on a contact sheet; of more, the first ones stand on it."""
MOST = 1_000_000
"""Pictures of one run, which knows all their names before it draws the first."""


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
        from muse_studio.images.sheets import Section, Tile, contact_sheet, side_of

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


def check_request(prompts: list[str], negative: str, count: int, seed: int, out: str) -> None:
    """ValueError, naming the setting, where one of these can't be; see the settings of the task `generate`."""
    for prompt in (*prompts, negative):
        check_prompt(prompt)
    if count < 1:
        raise SettingError("count", f"count is {count}; draw at least 1 picture a prompt")
    if not 0 <= seed <= LARGEST_SEED:
        raise SettingError("seed", f"seed is {seed}; give one from 0 to {LARGEST_SEED}")
    if seed + count - 1 > LARGEST_SEED:
        raise SettingError(
            "count", f"count is {count}; the last seed, {seed} + count - 1, must be at most {LARGEST_SEED}"
        )
    if not out.strip():
        raise SettingError("out", 'out is empty; name a folder, such as "out", or "." for this one')
    total = len(prompts) * count
    if total > MOST:
        raise SettingError("count", f"count is {count}, {total:,} pictures in all; draw at most {MOST:,} at a time")
    if names_a_file(out) and total > 1:
        raise SettingError("out", f"out is {out!r}, one file, but {total} pictures are asked for; name a folder")


def names_a_file(out: str) -> bool:
    """Whether `out` is one picture's name, not a folder's."""
    return out.lower().endswith(".png")


def open_out(out: str) -> Path:
    """`out` as a path, its folder made and proven writable; UserError where it is not."""
    path = path_of(out)
    open_folder(path.parent if names_a_file(out) else path, "out")
    return path


def save_new(image: Image.Image, path: Path, provenance: Provenance, *, endings: Sequence[str] = ()) -> Path:
    """Write a PNG to `path`, or to `path` numbered from 2 where that exists: apple.png, apple-2.png.

    endings: of the files that are to stand `beside` it; a number at which one of them exists is passed over.
    Returns the path that it took. Raises UserError where the disk refuses.
    """
    return _save_new(path, endings, lambda aside: image.save(aside, "PNG", pnginfo=provenance.png()))


def save_animation(
    images: Sequence[Image.Image], milliseconds: Sequence[int], path: Path, provenance: Provenance
) -> Path:
    """Write pictures of one size, each to be seen for so long, to a WebP that loops for ever and loses no pixel.

    Numbered, returned and refused as in `save_new`.
    """
    return _save_new(
        path,
        (),
        lambda aside: images[0].save(
            aside,
            "WEBP",
            save_all=True,
            append_images=images[1:],
            duration=list(milliseconds),
            loop=0,
            lossless=True,
            # How hard to look for a smaller file: of 9 frames of 512 x 512 pixels, this takes 0.2 s on one core for
            # 747 KiB, pillow's default of 80 and 4 takes 5 s for 652 KiB.
            quality=0,
            method=0,
            **provenance.webp(),
        ),
    )


def beside(path: Path, ending: str) -> Path:
    """The name of what goes with a picture: apple-2.png and "-steps.png" give apple-2-steps.png."""
    return path.with_name(path.stem + ending)


def _save_new(path: Path, endings: Sequence[str], write: Callable[[Path], None]) -> Path:
    aside = temporary_name(path)
    try:
        aside.unlink(missing_ok=True)
        write(aside)
        taken = _claim(path, endings)
        os.replace(aside, taken)
    except OSError as error:
        raise unwritable(path, error, "give another place as out") from error
    finally:
        with suppress(OSError):  # it was renamed, or there was no folder to write it to
            aside.unlink()
    return taken


def _claim(path: Path, endings: Sequence[str]) -> Path:
    """The first free name, made as an empty file so that nobody else takes it; a link would do, but FAT has none."""
    number = 1
    while True:
        name = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not any(beside(name, ending).exists() for ending in endings):
            with suppress(FileExistsError):
                name.open("xb").close()
                return name
        number += 1
