"""Anyone's pictures: a folder, captions beside them."""

from __future__ import annotations

import json
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from muse_studio.errors import UserError
from muse_studio.files import path_of
from muse_studio.progress import progress

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CAPTIONS = "metadata.jsonl"
LARGEST = 8192
"""Pixels of a side: a picture of more would fill the memory before anything could refuse it."""
SHOWN = 10
"""Broken files that are named; the others are counted."""


class Folder(Dataset):
    """Every picture below a folder, cut square from the middle and scaled to `size` pixels.

    A picture's caption is the text file of its name beside it (cat.txt for cat.png); else its line of metadata.jsonl,
    `{"file_name": "cat.png", "text": "a cat"}`; else its file name, with _ and - read as spaces.
    Broken files are reported and left out; `skipped` counts them. Transparency is put on white.
    """

    def __init__(self, path: str, size: int = 256) -> None:
        if not 1 <= size <= LARGEST:
            raise ValueError(f"size is {size}; give the pixels of a side, from 1 to {LARGEST}")
        self.path, self.size = path_of(path), size

    @property
    def skipped(self) -> int:
        """How many broken files are left out."""
        return len(self._checked[1])

    @cached_property
    def _checked(self) -> tuple[list[Path], list[str]]:
        """The pictures that can be read, and the others with the reason."""
        if not self.path.is_dir():
            raise UserError(f"{self.path} is not a folder; give one with pictures as dataset.path")
        found = sorted(file for file in self.path.rglob("*") if file.suffix.lower() in PICTURES and file.is_file())
        whole, broken = [], []
        for file in progress(found, f"checking {len(found)} pictures"):
            reason = _fault(file)
            whole.append(file) if reason is None else broken.append(f"{file.relative_to(self.path)}: {reason}")
        if broken:
            shown = "\n  ".join(broken[:SHOWN] + [f"and {len(broken) - SHOWN} more"] * (len(broken) > SHOWN))
            warnings.warn(f"{len(broken)} of {len(found)} pictures in {self.path} left out:\n  {shown}", stacklevel=2)
        if not whole:
            raise UserError(f"no picture that can be read is in {self.path}; it may hold {', '.join(PICTURES)}")
        return whole, broken

    @cached_property
    def _captions(self) -> dict[Path, str]:
        captions = {}
        for table in sorted(self.path.rglob(CAPTIONS)):
            for number, line in enumerate(_text(table).splitlines(), 1):
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                    captions[table.parent / entry["file_name"]] = str(entry["text"])
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(
                        f'{table}:{number} is not a line like {{"file_name": "cat.png", "text": "a cat"}}: {error}'
                    ) from error
        return captions

    def __len__(self) -> int:
        return len(self._checked[0])

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`{"image": uint8[3, size, size], "caption": str}`."""
        file = self._checked[0][index]
        square = ImageOps.fit(_read(file), (self.size, self.size), Image.Resampling.LANCZOS)
        return {"image": torch.from_numpy(np.array(square).transpose(2, 0, 1).copy()), "caption": self._caption(file)}

    def _caption(self, file: Path) -> str:
        beside = file.with_suffix(".txt")
        if beside.is_file():
            return _text(beside).strip()
        return self._captions.get(file, file.stem.replace("_", " ").replace("-", " "))


def _read(file: Path) -> Image.Image:
    """The picture as its camera was held, RGB, on white where it is transparent."""
    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):  # 16 bits of grey, which pillow would cut off at 255 instead of scaling
            picture = Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8))
        picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture).convert("RGB")


def _fault(file: Path) -> str | None:
    try:
        _read(file)
    except Exception as error:  # pillow's readers raise whatever a broken file leads them to
        return str(error) or type(error).__name__
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
